"""The command `hoirt`: one file per subcommand."""
