"""Every name that the backend tensorrt uses is one of the real bindings of both versions."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_tensorrt
import hoirt
import pytest

FOLDER = Path(hoirt.__file__).parent / "backends" / "tensorrt"
VERSIONS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())[
    "versions"
]
# What the variables of the backend's files are.
KINDS = {
    "build.py": {
        "self.builder": "Builder",
        "self.config": "IBuilderConfig",
        "config": "IBuilderConfig",
        "self.network": "INetworkDefinition",
        "flags": "BuilderFlag",
        "profile": "IOptimizationProfile",
        "cache": "ITimingCache",
        "parser": "OnnxParser",
        "error": "ParserError",
    },
    "engine.py": {
        "self.runtime": "Runtime",
        "self.engine": "ICudaEngine",
        "context": "IExecutionContext",
        "context.context": "IExecutionContext",
        "refitter": "Refitter",
        "parser": "OnnxParserRefitter",
        "prototype": "Weights",
    },
    "library.py": {"builder": "Builder", "refitter": "Refitter"},
}
OURS = {  # the same variable names for things of our own
    ("build.py", "profile"): {"shapes", "key"},
    ("engine.py", "context"): {"context", "lock", "outputs", "block", "staged"},
}
ELEVEN_ONLY = {("Refitter", "release_refit_resources")}  # behind a question for the version
TEN_ONLY = {("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")}
MODULES = ("module", "self.module", "library.module", "self.library.module")


def uses(path: Path) -> Iterator[tuple[str, str, int | None]]:
    """(class, attribute, number of arguments or None if it is not called); the class is "" for the module."""
    tree = ast.parse(path.read_text())
    calls = {
        id(node.func): len(node.args) + len(node.keywords)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        kind = KINDS.get(path.name, {}).get(owner)
        if owner in MODULES:
            yield "", node.attr, calls.get(id(node))
        elif kind and node.attr not in OURS.get((path.name, owner), ()):
            yield kind, node.attr, calls.get(id(node))
        elif isinstance(node.value, ast.Attribute) and ast.unparse(node.value.value) in MODULES:
            yield node.value.attr, node.attr, calls.get(id(node))  # module.Enum.MEMBER


ALL = sorted({use for path in FOLDER.glob("*.py") for use in uses(path)}, key=str)


def test_the_uses_are_found() -> None:
    found = {(kind, name) for kind, name, _ in ALL}
    assert len(found) > 50
    for use in (
        ("IExecutionContext", "execute_async_v3"),
        ("Builder", "build_serialized_network"),
        ("BuilderFlag", "STRIP_PLAN"),
        ("", "OnnxParserRefitter"),
        ("Refitter", "set_named_weights"),
        ("IBuilderConfig", "progress_monitor"),
    ):
        assert use in found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "name", "arguments"), ALL)
def test_the_bindings_have_it(version: str, kind: str, name: str, arguments: int | None) -> None:
    major, classes = int(version.partition(".")[0]), VERSIONS[version]
    if kind == "":
        if name in ("__version__",):
            return
        assert name in classes
        kind, name = name, "__init__"
        if arguments is None or name not in classes[kind]:
            return
    if (kind, name) in ELEVEN_ONLY and major == 10:
        assert name not in classes[kind]
        return
    if name in ("Severity", "__init__") and kind in ("ILogger", "IProgressMonitor"):
        return  # an enum inside of a class; a base class called with self
    assert name in classes[kind], f"{kind} of {version} has no {name}"
    signatures = classes[kind][name]
    if arguments is None or not signatures:
        return
    fitting = [s for s in signatures if sum(not p.endswith("=") for p in s) <= arguments <= len(s)]
    assert fitting, f"{kind}.{name} of {version} takes {signatures}, not {arguments} arguments"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_in_has_no_names_of_its_own(version: str) -> None:
    module, classes = fake_tensorrt.make(version), VERSIONS[version]
    for kind, stand_in in module.classes.items():
        own = {name for name in dir(stand_in) if not name.startswith("_")}
        assert own <= classes[kind].keys(), f"{kind}: {own - classes[kind].keys()}"
    for kind in ("BuilderFlag", "ExecutionContextAllocationStrategy", "TensorIOMode"):
        assert set(getattr(module, kind).__members__) <= classes[kind].keys()


@pytest.mark.parametrize("version", VERSIONS)
def test_callbacks_have_the_bindings_parameters(version: str) -> None:
    """The monitor and the logger are called by the library, by position."""
    tree = ast.parse(
        (FOLDER / "progress.py").read_text()
        + (FOLDER / "library.py").read_text().partition("import threading")[2]
    )
    ours = {
        node.name: len(node.args.args) - 1 for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }
    for kind, names in {
        "IProgressMonitor": ("phase_start", "phase_finish", "step_complete"),
        "ILogger": ("log",),
    }.items():
        for name in names:
            assert [len(s) for s in VERSIONS[version][kind][name]] == [ours[name]]
