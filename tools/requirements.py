"""Prints the requirements of a group in pyproject.toml, one per line, for `pip install`.

usage: python tools/requirements.py GROUP     "runtime", "build", or an extra such as "test"
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
# scikit-build-core adds these by itself when it builds in isolation and the system has none that fit.
BUILD_PROGRAMS = ("cmake>=3.25", "ninja>=1.10")


def requirements(group: str) -> list[str]:
    """The requirements of a group, with the extras that it includes (hoirt[other]). KeyError if unknown."""
    document = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    project = document["project"]
    if group == "runtime":
        return list(project["dependencies"])
    if group == "build":
        return [*document["build-system"]["requires"], *BUILD_PROGRAMS]
    found: list[str] = []
    for entry in project["optional-dependencies"][group]:
        nested = re.fullmatch(rf"{project['name']}\[(\w+)\]", entry)
        found += requirements(nested[1]) if nested else [entry]
    return found


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
