"""Judges of repaired hands, trained apart from the pack: other architecture, other seed, other pictures."""
