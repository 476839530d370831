"""Generates the stubs of the native modules from the installed build and compares them with the repository's.

usage: python tools/stubs.py           compare, exit 1 and show the difference if a stub is stale
       python tools/stubs.py --write   write the stubs into python/hoirt
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "python" / "hoirt"


def generate(module: str, folder: Path) -> str:
    """The stub of `hoirt.<module>`; raises if a signature cannot be expressed."""
    command = [
        sys.executable,
        "-m",
        "pybind11_stubgen",
        f"hoirt.{module}",
        "--exit-code",
        "--output-dir",
        str(folder),
    ]
    command += ["--numpy-array-use-type-var"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    stub = folder / "hoirt" / f"{module}.pyi"
    configuration = FOLDER.parent.parent / "pyproject.toml"
    ruff = [sys.executable, "-m", "ruff"]
    # As in the repository, where ruff sees the package around the stub.
    inside = ["--config", 'lint.isort.known-first-party = ["hoirt"]']
    fix = ["check", "--silent", "--fix", "--exit-zero", "--config", configuration]
    subprocess.run([*ruff, *fix, *inside, stub], check=True)
    subprocess.run([*ruff, "format", "--quiet", "--config", configuration, stub], check=True)
    return stub.read_text()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    stale = False
    for module in ("_core", "_core_cuda"):
        if importlib.util.find_spec(f"hoirt.{module}") is None:
            print(f"{module}: not built here, its stub is not checked")
            continue
        with tempfile.TemporaryDirectory() as temporary:
            new = generate(module, Path(temporary))
        target = FOLDER / f"{module}.pyi"
        if write:
            target.write_text(new)
            continue
        old = target.read_text() if target.exists() else ""
        difference = difflib.unified_diff(
            old.splitlines(True), new.splitlines(True), str(target), "generated"
        )
        text = "".join(difference)
        stale = stale or bool(text)
        print(text, end="")
    if stale:
        print("stale stubs: run `python tools/stubs.py --write`")
    return int(stale)


if __name__ == "__main__":
    raise SystemExit(main())
