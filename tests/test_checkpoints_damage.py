"""Files that are no weights, damaged and hostile ones: a CheckpointError that says so, and nothing is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import Entry, lightning, write_safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from export.checkpoints import CheckpointError, open_tensors, read_base, read_controlnet

# Not weights at all


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ""])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4265437280\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
        (b'{"error": "Invalid credentials"}', "a JSON text"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:" + bytes(90), "an ONNX network"),
        (b"\x93NUMPY\x01\x00" + bytes(120), "a NumPy array"),
        (b"\x1f\x8b\x08\x00" + bytes(60), "a compressed archive"),
        (b"GGUF" + bytes(60), "GGUF"),
        (pickle.dumps({"hands_components": [0.0], "J_regressor": [0.0]}, protocol=2), "a MANO hand model"),
    ],
)
def test_what_it_is_instead(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    for read in (read_base, read_controlnet, open_tensors):
        with pytest.raises(CheckpointError, match=message):
            read(path)


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(1, 200)))
    save_file({}, tmp_path / "empty.safetensors")
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "numbers.ckpt")
    for name, message in (
        ("absent", "no such file"),
        ("noise", "neither a safetensors file nor one of torch"),
        ("empty.safetensors", "no tensors"),
        ("list.ckpt", "holds a list"),
        ("numbers.ckpt", "no dictionary of named weights"),
    ):
        with pytest.raises(CheckpointError, match=message):
            open_tensors(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a file"):
        open_tensors(tmp_path / "pipe")


# Damaged


def test_cut_off(tmp_path: Path) -> None:
    """At the header, in the header, in the data: always told as a download that was cut off."""
    state = {"a": torch.arange(1000.0), "b": torch.ones(3, 4)}
    save_file(state, tmp_path / "x.safetensors")
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    for name in ("x.safetensors", "x.ckpt"):
        whole = (tmp_path / name).read_bytes()
        for length in (1, 7, 9, 40, 200, len(whole) // 2, len(whole) - 1):
            path = tmp_path / f"cut_{name}"
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match="compare its size with the published one"):
                open_tensors(path)


def test_shortened_while_open(tmp_path: Path) -> None:
    save_file({"a": torch.arange(1000.0)}, tmp_path / "x.safetensors")
    tensor = open_tensors(tmp_path / "x.safetensors")["a"]
    with (tmp_path / "x.safetensors").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(CheckpointError, match="became shorter"):
        tensor.read()


def _file(kind: str) -> bytes:
    """A small file of each format, as bytes."""
    import io

    from safetensors.torch import save

    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    if kind == "safetensors":
        return save(state)
    stream = io.BytesIO()
    torch.save({"state_dict": state}, stream, _use_new_zipfile_serialization=kind == "zip")
    return stream.getvalue()


FILES = {kind: _file(kind) for kind in ("safetensors", "zip", "legacy")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_bytes(tmp_path: Path, kind: str, changes: list[tuple[int, int]]) -> None:
    """Any byte may be wrong: tensors come out, or a CheckpointError."""
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path / "changed.bin"
    path.write_bytes(data)
    try:
        for tensor in open_tensors(path).values():
            assert tuple(tensor.read().shape) == tensor.shape
    except CheckpointError:
        pass


# Hostile


class _Run:
    """Pickles to a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _mark(path: str) -> None:
    Path(path).write_text("run")


@pytest.mark.parametrize("old", [False, True])
def test_code_is_refused(tmp_path: Path, old: bool) -> None:
    """Calls of os.system, eval, getattr and of a function of this file; nothing of it runs."""
    witness = tmp_path / "witness"
    for function, arguments in (
        (os.system, (f"touch {witness}",)),
        (eval, (f"open({str(witness)!r}, 'w')",)),
        (getattr, ("text", "upper")),
        (_mark, (str(witness),)),
    ):
        path = tmp_path / "hostile.ckpt"
        content = {"state_dict": {"a": torch.ones(2)}, "callbacks": _Run(function, *arguments)}
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        with pytest.raises(CheckpointError, match=r"refused.*Nothing of it was run"):
            open_tensors(path)
        assert not witness.exists()


def test_a_class_that_is_only_named_is_harmless(tmp_path: Path) -> None:
    """The published Stable Diffusion files have a class of the trainer as a key; its records are skipped."""
    path = tmp_path / "x.ckpt"
    content = lightning()({"a": torch.arange(3.0)})
    content["best_score"] = np.float64(0.5)
    content["callbacks"]["function"] = _mark  # named, not called
    torch.save(content, path)
    assert torch.equal(open_tensors(path)["a"].read(), torch.arange(3.0))


def test_memory_of_one_tensor(tmp_path: Path) -> None:
    """A file of 400 MB is read tensor by tensor: the process's peak grows by little more than one of them."""
    import resource

    shape = (1024, 10 * 1024)  # 40 MiB
    path = write_safetensors(
        tmp_path / "large.safetensors",
        [Entry(f"t{i}", shape, torch.float32, lambda: torch.empty(0)) for i in range(10)],
        hollow=True,
    )
    tensors = open_tensors(path)
    tensors["t0"].read()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for tensor in tensors.values():
        assert tensor.read().shape == shape
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
