"""`hoirt doctor`: what works here, and why the rest does not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to `hoirt`."""
    parser = commands.add_parser("doctor", help="show versions, backends, cache and packs")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report; returns 0 if refine() can work here, else 1."""
    from hoirt import doctor

    report = doctor()
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, value in report.items():
            _show(name, value)
    return 0 if report["healthy"] else 1


def _show(name: str, value: Any) -> None:
    if isinstance(value, Mapping) and value:
        print(f"{name}:")
        width = max(14, *(len(key) + 2 for key in value))
        for key, entry in value.items():
            print(f"  {key:<{width}}{_text(entry)}")
    else:
        print(f"{name + ':':<16}{_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if not value:
        return "none"
    return str(value)
