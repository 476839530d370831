"""The training report: the table says what the stages recorded, and only the marked block is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from export.tiny.train import report


def write_stage(work: Path, name: str, **changes: Any) -> None:
    record = {
        "stage": name,
        "seed": 11,
        "steps": 1200,
        "minutes": 12.5,
        "device": "CPU, 2 cores, 2 threads",
        "torch": "2.13.0",
        "parameters": 1_500_000,
        "losses": [[100, 60.0, 0.5], [1200, 750.0, 0.125]],
    }
    (work / f"{name}.json").write_text(json.dumps(record | changes), encoding="utf-8")


def test_table_has_a_row_per_finished_stage_in_order(tmp_path: Path) -> None:
    write_stage(tmp_path, "mesh", seed=22)
    write_stage(tmp_path, "vae", losses=[])
    rows = report.table(report.read_stages(tmp_path)).splitlines()[2:]
    assert rows == [
        "| autoencoder | 1.50 M | 1200 | 12.5 | 11 | not recorded |",
        "| mesh regressor | 1.50 M | 1200 | 12.5 | 22 | 0.500, 0.125 |",
    ]


def test_judge_does_not_count_as_training_of_the_pack(tmp_path: Path) -> None:
    write_stage(tmp_path, "vae")
    write_stage(tmp_path, "judge", minutes=100.0)
    page = report.page(report.read_stages(tmp_path), "a machine", samples=False)
    assert "12 minutes of training for the pack" in page  # 12.5, rounded to even
    assert "samples.png" not in page


def test_no_finished_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no stage has finished"):
        report.read_stages(tmp_path)


def test_fill_replaces_the_block_alone(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- report -->\nold\n<!-- /report -->\nafter\n", encoding="utf-8")
    for text in ("first", "second"):
        report.fill(document, text)
        wanted = f"before\n<!-- report -->\n{text}\n<!-- /report -->\nafter\n"
        assert document.read_text(encoding="utf-8") == wanted


def test_fill_needs_both_markers(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("<!-- report -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no block"):
        report.fill(document, "text")
    assert document.read_text(encoding="utf-8") == "<!-- report -->\n"


def test_losses_are_drawn(tmp_path: Path) -> None:
    write_stage(tmp_path, "vae")
    write_stage(tmp_path, "mesh")
    report.draw_losses(report.read_stages(tmp_path), tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
