"""The package as users meet it: a quick import, types, docstrings, documents whose code runs, tidy files."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(hoirt.__file__).resolve().parent
HEAVY = ("torch", "PIL", "openvino", "tokenizers", "tqdm", "safetensors")

needs_bundled_pack = pytest.mark.skipif(
    not (PACKAGE / "packs" / "data" / "handrefiner-tiny" / "pack.json").is_file(),
    reason="this checkout has no trained pack in python/hoirt/packs/data/handrefiner-tiny",
)


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the installed package ---


def test_import_loads_nothing_heavy() -> None:
    assert run_python(f"import sys, hoirt; print([n for n in {HEAVY} if n in sys.modules])").strip() == "[]"


def test_names_of_the_package_come_without_torch() -> None:
    code = "import sys, hoirt; [getattr(hoirt, n) for n in hoirt.__all__]; print('torch' in sys.modules)"
    assert run_python(code).strip() == "False"


def test_version_has_one_source() -> None:
    from hoirt import _core

    source = (ROOT / "python" / "hoirt" / "_version.py").read_text(encoding="utf-8")
    written = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    assert written == [hoirt.__version__]
    assert metadata.version("hoirt") == hoirt.__version__ == _core.__version__


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_core.pyi").is_file()


def public_members() -> list[tuple[str, Any]]:
    """Everything in hoirt.__all__, and the methods and properties of its classes."""
    members = [(name, getattr(hoirt, name)) for name in hoirt.__all__ if name != "__version__"]
    for name, value in list(members):
        if inspect.isclass(value) and not issubclass(value, BaseException):
            members += [
                (f"{name}.{member}", entry)
                for member, entry in vars(value).items()
                if not member.startswith("_") and (callable(entry) or isinstance(entry, property))
            ]
    return members


@pytest.mark.parametrize(("name", "value"), public_members(), ids=lambda v: v if isinstance(v, str) else "")
def test_public_names_have_docstrings(name: str, value: object) -> None:
    text = inspect.getdoc(value) or ""
    # dataclass writes "Name(field: type, ...)" where the author wrote nothing.
    assert len(text) > 15 and not re.fullmatch(rf"{name}\(.*\)", text, re.DOTALL), f"{name}: {text!r}"


def test_dir_lists_the_public_names() -> None:
    assert set(hoirt.__all__) <= set(dir(hoirt))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'refinr'"):
        _ = hoirt.refinr


# --- the documents ---

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON_BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^\n]+ -->\n)?```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


def runnable_code(document: Path) -> list[tuple[int, str]]:
    """The python blocks of a document with their first lines; not those marked <!-- not run: reason -->."""
    text = document.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start("code")) + 1, match["code"])
        for match in PYTHON_BLOCK.finditer(text)
        if not match["mark"]
    ]


WITH_CODE = [document for document in DOCUMENTS if runnable_code(document)]


def test_documents_show_code() -> None:
    assert ROOT / "README.md" in WITH_CODE


@needs_bundled_pack
@pytest.mark.parametrize("document", WITH_CODE, ids=lambda path: path.name)
def test_code_of_documents_runs(
    document: Path, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for line, code in runnable_code(document):  # the blocks of one document follow each other, as they read
        exec(compile("\n" * (line - 1) + code, str(document), "exec"), names)


def make_photos(folder: Path) -> None:
    """The pictures that documents and examples speak of: photo.jpg, and photos/ with two."""
    demo = sorted((PACKAGE / "demo").glob("*.png"))
    assert demo, "the package has no demo pictures"
    (folder / "photos").mkdir()
    Image.open(demo[0]).convert("RGB").save(folder / "photo.jpg", quality=95)
    for index, path in enumerate(demo[:2]):
        shutil.copy(path, folder / "photos" / f"{index}.png")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img[^>]+src=\"([^\"]+)\"", text):
        path = target[0] or target[1]
        if not re.match(r"https?://", path):
            assert (document.parent / path).exists(), f"{document.name} refers to {path}"


@needs_bundled_pack
def test_example_repairs_a_folder(tmp_path: Path, cache_folder: Path) -> None:
    make_photos(tmp_path)
    run_example("repair_folder.py", str(tmp_path / "photos"), str(tmp_path / "repaired"))
    written = sorted(path.name for path in (tmp_path / "repaired").iterdir())
    assert written == ["0.png", "1.png"]
    before, after = (np.asarray(Image.open(tmp_path / part / "0.png")) for part in ("photos", "repaired"))
    assert before.shape[:2] == after.shape[:2]


@needs_bundled_pack
def test_example_shows_progress_and_cancels(tmp_path: Path, cache_folder: Path) -> None:
    make_photos(tmp_path)
    picture, result = str(tmp_path / "photo.jpg"), tmp_path / "repaired.png"
    assert "step 20 of 20" in run_example("progress_and_cancel.py", picture, str(result), "--seconds", "600")
    assert result.is_file()
    result.unlink()
    assert "stopped after 0 s" in run_example(
        "progress_and_cancel.py", picture, str(result), "--seconds", "0"
    )
    assert not result.exists()


def run_example(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the files of the repository ---

CODE = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh", ".cmake", ".sh"}
TEXT = CODE | {".md", ".toml", ".txt", ".yml", ".yaml", ".json", ".svg", ""}
MOST_LINES = 400
# Split, so that this file does not hold what it looks for.
FOREIGN = (
    "/wo" + "rk/",
    "/ro" + "ot/",
    "/ho" + "me/",
    "py" + "pi.",
    "python" + "hosted.",
    "--index" + "-url",
)


def tracked_files(suffixes: set[str]) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout, so there are no tracked files to look at")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix in suffixes]


def test_files_name_no_machine_and_no_package_index() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked_files(TEXT)
        for word in FOREIGN
        if word in path.read_text(encoding="utf-8")
    ]
    assert not found


def test_files_are_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in tracked_files(CODE)
        if path.name != "_core.pyi"  # generated
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_python_files_begin_with_their_purpose() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked_files({".py"})
        if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert silent == []
