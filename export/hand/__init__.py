"""Builds the constants of the procedural hand."""
