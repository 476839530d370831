"""What happens when names of hoirt are used for the first time, also by several threads at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hoirt
import pytest

MISSING = """
import ast, inspect, sys
import hoirt
getattr(hoirt, sys.argv[1])
packages = {name for name in sys.argv[2].split(",")}

def targets(module):
    tree = ast.parse(inspect.getsource(module))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for node in [node for function in functions for node in ast.walk(function)]:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)

for name, module in sorted(sys.modules.items()):
    if name.startswith("hoirt") and str(getattr(module, "__file__", None)).endswith(".py"):
        for target in targets(module):
            parts = target.split(".")
            heads = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
            for package in sorted(heads & packages - sys.modules.keys()):
                print(f"{name} imports {package} in a function")
"""
AT_ONCE = """
import sys, threading
import hoirt
sys.setswitchinterval(1e-6)
triangle = [[0, 0, 1], [0.1, 0, 1], [0, 0.1, 1]], [[0, 1, 2]]
calls = [
    lambda: hoirt.refine,
    lambda: hoirt.Refiner("no pack"),
    lambda: hoirt.render(triangle, camera=(90, 90, 32, 24), size=(48, 64)),
    lambda: hoirt.load_mano("no file"),
    lambda: hoirt.doctor(),
    lambda: hoirt.report_sheet,
]
begin = threading.Barrier(len(calls))

def run(call):
    begin.wait()
    try:
        call()
    except (hoirt.PackError, hoirt.InputError):
        pass

threads = [threading.Thread(target=run, args=[call]) for call in calls]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["refine", "render", "doctor", "load_mano", "load_motion", "report_sheet"])
def test_packages_are_imported_with_the_name(name: str) -> None:
    """By its functions none, as they may run in several threads while others import modules of it."""
    folder = Path(hoirt.__file__).parent
    packages = [path.parent.relative_to(folder.parent) for path in folder.rglob("__init__.py")]
    assert run(MISSING, name, ",".join(".".join(path.parts) for path in packages)) == ""


@pytest.mark.parametrize("again", range(3))
def test_several_threads_at_once(again: int) -> None:
    assert run(AT_ONCE) == ""


def test_the_doctor_tells_of_a_broken_core() -> None:
    told = run("import sys; sys.modules['hoirt._core'] = None; import hoirt; print(hoirt.doctor())")
    assert "'core': 'unavailable: " in told and "'healthy': False" in told
