"""Command line: python -m export.tiny.train [--stage all]."""

from export.tiny.train.plan import main

main()
