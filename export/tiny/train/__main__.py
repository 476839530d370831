"""Command line: python -m export.tiny.train [--stage all]."""

from .plan import main

main()
