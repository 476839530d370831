"""`hoirt pack build`: from the files that users have to a pack."""
