"""`hoirt pack build` and its parts, as far as no weights are read: options, help, two builds of one pack."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import hoirt
import pytest
from hoirt.cli import build as command
from hoirt.errors import InputError

from export.pack_writer import new_pack

ROOT = Path(__file__).resolve().parents[1]


def test_lora_option() -> None:
    assert command.lora("a.safetensors") == (Path("a.safetensors"), 1.0)
    assert command.lora("c:/a.safetensors:0.25") == (Path("c:/a.safetensors"), 0.25)
    with pytest.raises(InputError, match="between -10 and 10"):
        command.lora("a:nan")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "NEEDED", ("torch", "no_such_package"))
    with pytest.raises(hoirt.HoirtError, match=r"no_such_package.*pip install 'hoirt\[export\]'"):
        command.load_exporter()


def test_export_imports_only_itself_relatively() -> None:
    """It is `export` in a checkout and `hoirt_export` in a wheel."""
    for file in (ROOT / "export").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) export\b", file.read_text(encoding="utf-8"), re.MULTILINE), (
            file
        )


def test_help_needs_no_torch() -> None:
    code = "import sys; from hoirt.cli import main; main.main(['pack', 'build', '--help']); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--controlnet" in done.stdout and done.stdout.rstrip().endswith("False")


def test_two_builds_of_one_pack_do_not_meet(tmp_path: Path) -> None:
    out = tmp_path / "hands"
    with new_pack(out, key="0" * 64) as folder:
        (folder / "pack.json").write_text("{}")
        with (
            pytest.raises(InputError, match=r"another process is building .*hands"),
            new_pack(out, key="1" * 64),
        ):
            pytest.fail("the second one must not begin")
    assert [path.name for path in tmp_path.iterdir()] == ["hands"]
    with new_pack(out, overwrite=True, key="1" * 64) as folder:
        assert not list(folder.iterdir())
