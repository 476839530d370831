"""Turns the JSON files of bench/results into the tables of docs/performance.md, between its markers.

    python -m bench.report [--check]

The markers are `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` for bench/results/NAME.json; what stands
between them is replaced. With --check nothing is written, and the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.record import RESULTS, figures_of

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_BLOCK = re.compile(r"(<!-- bench:(?P<name>[\w-]+) -->\n).*?(<!-- /bench:(?P=name) -->)", re.DOTALL)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table of text, its header first; all columns but the first are right-aligned."""
    rule = "|---|" + "---:|" * (len(cells[0]) - 1)
    header, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([header, rule, *rows])


def rendered(stored: Mapping[str, Any]) -> str:
    """One stored benchmark as Markdown: its own table if it has one, its figures, where and when measured."""
    lines = [markdown(stored["table"]), ""] if "table" in stored else []
    if figures := figures_of(stored):
        lines += ["| figure | value | bound | |", "|---|---:|---:|---|"]
        for figure in figures:
            name = f"{figure.name} ({figure.note})" if figure.note else figure.name
            lines.append(f"| {name} | {' | '.join(figure.shown())} |")
        lines.append("")
    where = stored["environment"]
    pack = f"Pack {stored['pack']}. " if "pack" in stored else ""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    measured = (
        f"{pack}{where['cpu']}, {where['cores']} cores, {where['threads']} threads, "
        f"load average {where['load_average']} at the end; {where['system']}; Python {where['python']}, "
        f"{versions}; {where['date']}."
    )
    return "\n".join([*lines, measured])


def filled(page: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with every marked block replaced; a block without results stays as it is.

    Raises ValueError for results that the page has no markers for.
    """
    unplaced = set(results) - {match["name"] for match in _BLOCK.finditer(page)}
    if unplaced:
        raise ValueError(f"the page has no markers <!-- bench:NAME --> for {', '.join(sorted(unplaced))}")

    def block(match: re.Match[str]) -> str:
        if match["name"] not in results:
            return match[0]
        return f"{match[1]}{rendered(results[match['name']])}\n{match[3]}"

    return _BLOCK.sub(block, page)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args(argv)
    results = {path.stem: json.loads(path.read_text()) for path in sorted(args.results.glob("*.json"))}
    page = args.page.read_text(encoding="utf-8")
    new = filled(page, results)
    if new == page:
        print(f"{args.page.name} is up to date")
        return 0
    if args.check:
        print(f"{args.page.name} does not show bench/results; run python -m bench.report")
        return 1
    temporary = args.page.with_name(f".{args.page.name}")
    temporary.write_text(new, encoding="utf-8")
    temporary.replace(args.page)
    print(f"{args.page.name}: tables of {', '.join(results)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
