"""`hoirt`: the command line, its subcommands, and errors as one readable line and an exit code."""

from __future__ import annotations

import argparse
import io
import sys
import traceback
from collections.abc import Sequence

from hoirt._version import __version__
from hoirt.cli import demo, doctor, pack, refine, render
from hoirt.errors import HoirtError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hoirt ARGUMENTS` (None: the process's) and returns the exit code.

    0: all went well; 1: something failed, or failed for some pictures; 2: wrong usage; 130: interrupted.
    """
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # names of files need not be valid in the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed help or the usage error
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    try:
        code: int = options.run(options)
        return code
    except KeyboardInterrupt:
        print("hoirt: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (HoirtError, OSError) as error:
        if options.debug:
            traceback.print_exc()
        print(f"hoirt: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hoirt", description="Repairs malformed hands in pictures.")
    parser.add_argument("--version", action="version", version=f"hoirt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (refine, render, demo, doctor, pack):
        module.add_parser(commands)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help="show the trace of an error")
    return parser


if __name__ == "__main__":
    sys.exit(main())
