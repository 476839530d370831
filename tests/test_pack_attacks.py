"""Hostile and damaged packs: each is refused with a message that names the fault; nothing of it is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hoirt.errors import PackError
from hoirt.packs.manifest import parse_manifest
from pack_tools import edit_manifest, load_manifest, refused, replace_file

# Files


def test_changed_content(pack: Path) -> None:
    weights = bytearray((pack / "step.bin").read_bytes())
    weights[1000] ^= 0x80
    (pack / "step.bin").write_bytes(weights)
    refused(pack, r"step\.bin: damaged: its sha256 is [0-9a-f]{64}, pack\.json says")


def test_truncated_file(pack: Path) -> None:
    os.truncate(pack / "step.bin", 100)
    refused(pack, r"step\.bin: has 100 bytes, pack\.json says \d+")


def test_missing_and_extra_files(pack: Path) -> None:
    (pack / "tokenizer.json").rename(pack / "more.txt")
    refused(pack, r"more\.txt: lies in the folder, but pack\.json does not list it")
    (pack / "more.txt").unlink()
    refused(pack, r"tokenizer\.json: is missing")


def test_folder_pipe_and_link_inside(pack: Path) -> None:
    (pack / "sub").mkdir()
    refused(pack, "sub: is a folder")
    (pack / "sub").rmdir()
    os.mkfifo(pack / "pipe")
    refused(pack, "pipe: is a device, pipe or socket")
    (pack / "pipe").unlink()
    (pack / "step.bin").rename(pack.parent / "step.bin")
    (pack / "step.bin").symlink_to(pack.parent / "step.bin")
    refused(pack, r"step\.bin: is a symbolic link")


def test_manifest_as_link_or_pipe(pack: Path) -> None:
    shutil.move(pack / "pack.json", pack.parent / "pack.json")
    (pack / "pack.json").symlink_to(pack.parent / "pack.json")
    refused(pack, r"pack\.json: is a symbolic link")
    (pack / "pack.json").unlink()
    os.mkfifo(pack / "pack.json")  # opening it would wait for ever
    refused(pack, r"pack\.json: is a device, pipe or socket")


def test_not_a_pack(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"has no pack\.json")


@pytest.mark.parametrize(
    "name",
    ["ö", "../secret.bin", "/etc/passwd", "..", ".", ".hidden", "a/b", "a\\b", "C:x", "a..b", "a\0b", "",
     "tail.", "\n", "step.bin\n", "x" * 129, "pack.json", "PACK.json", "STEP.bin", "\x1b[31m"],
)  # fmt: skip
def test_hostile_file_names(pack: Path, name: str) -> None:
    entry = {"bytes": 0, "sha256": "0" * 64}
    edit_manifest(pack, lambda manifest: manifest["files"].update({name: entry}))
    refused(pack, r"pack\.json: files")


def test_network_names_a_path(pack: Path) -> None:
    edit_manifest(pack, lambda manifest: manifest["networks"]["step"].update(file="../secret.bin"))
    refused(pack, r"networks\.step\.file: found the string '\.\./secret\.bin', expected a bare file name")


# JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON.*line 1"),
        (b"[]", "found an array of 0, expected an object"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{}" + b" " * (1 << 20), "at most 1048576"),
        (b"[" * 500_000, "nested too deeply|not JSON"),
        (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, "nested too deeply|at most"),
        (b'{"schema": 1, "schema": 1}', "'schema' stands twice"),
        (b'{"schema": NaN}', "NaN is not a JSON number"),
        (b'{"schema": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"schema": 1e999}', "does not fit into a double"),
        (b'{"schema": ' + b"9" * 100_000 + b"}", "more than 18 digits"),
        (b'{"schema": 2}', "found the number 2, expected 1"),
        (b'{"schema": "1"}', "found the string '1', expected 1"),
        (b'{"schema": 1.5}', "found the number 1.5, expected 1"),
    ],
)
def test_hostile_json(text: bytes, message: str) -> None:
    with pytest.raises(PackError, match=message) as error:
        parse_manifest(text)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [[[[[[[[[[1]]]]]]]]]]}, "at most 8 levels"),
        ({str(i): i for i in range(1000)}, "at most 256 members"),
        ({"a": [0] * 5000}, "at most 4096"),
        ({"a": "x" * 5000}, "at most 4096 characters"),
        ({"a": "\ud800"}, "a string of at most"),
        ({"\ud800": 1}, "a string of at most"),
    ],
)
def test_hostile_free_parts(random_pack: Path, value: Any, message: str) -> None:
    for key in ("provenance", "scheduler"):
        manifest = load_manifest(random_pack)
        manifest[key] = {**value, "_class_name": "X"}
        with pytest.raises(PackError, match=message):
            parse_manifest(json.dumps(manifest).encode())


# Constants and tokenizer


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("constants.safetensors", "claims a header"),
        ("hint.onnx", "not a sound ONNX file"),
        ("hint.bin", "ends at byte"),
        ("tokenizer.json", "not UTF-8"),
        ("pack.json", "not UTF-8"),
    ],
)
def test_pickles_are_never_loaded(pack: Path, name: str, message: str) -> None:
    marker = pack.parent / "marker"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)
    assert marker.exists(), "the bomb works"
    marker.unlink()
    if name == "pack.json":
        (pack / name).write_bytes(bomb)
    else:
        replace_file(pack, name, bomb)
    refused(pack, message)
    assert not marker.exists()


def header(tensors: Any, size: int = 0) -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1234", "too few"),
        (b"\xff" * 16, "claims a header of 18446744073709551615 bytes"),
        (header(b"[]"), "expected an object"),
        (header(b'{"a": 1, "a": 2}'), "stands twice"),
        (header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, 4), r"a\.shape\[0\]"),
        (
            header({"a": {"dtype": "F32", "shape": [1 << 20] * 4, "data_offsets": [0, 4]}}, 4),
            "by shape and dtype",
        ),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, 8), "by shape and dtype"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8), "begins at byte 4, not 0"),
        (
            header({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, 4),
            "begins at byte 0",
        ),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 9), "header accounts for"),
        (
            header({"a": {"dtype": "F128", "shape": [1], "data_offsets": [0, 16]}}, 16),
            "expected one of 'BOOL'",
        ),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, 4), r"a\.shape\[0\]"),
    ],
)
def test_hostile_safetensors(pack: Path, data: bytes, message: str) -> None:
    replace_file(pack, "constants.safetensors", data)
    refused(pack, r"constants\.safetensors.*" + message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": None}, "has no faces"),
        ({"faces": np.zeros((4, 3), np.int64)}, r"faces is int64 \(4, 3\), expected int32 \(F, 3\)"),
        ({"faces": np.zeros((4, 2), np.int32)}, "faces is"),
        ({"faces": np.full((4, 3), 42, np.int32)}, "faces has indices 42 to 42, expected 0 to 41"),
        ({"faces": np.full((4, 3), -1, np.int32)}, "faces has indices -1"),
        ({"joint_regressor": np.ones((21, 7), np.float32)}, "is for 7 vertices, the network mesh gives 42"),
        ({"joint_regressor": np.full((21, 42), np.nan, np.float32)}, "not finite"),
        ({"joint_regressor": np.ones((16, 42), np.float32)}, r"expected float32 \(21, V\)"),
    ],
)
def test_constants_that_do_not_fit(pack: Path, change: dict[str, Any], message: str) -> None:
    arrays = safetensors.numpy.load_file(pack / "constants.safetensors") | change
    kept = {key: array for key, array in arrays.items() if array is not None}
    replace_file(pack, "constants.safetensors", safetensors.numpy.save(kept))
    refused(pack, r"constants\.safetensors: .*" + message)


@pytest.mark.parametrize("data", [b"\x80\x04.", b"[1]", b'{"a": NaN}', b"[" * 100_000])
def test_tokenizer_that_is_no_json_object(pack: Path, data: bytes) -> None:
    replace_file(pack, "tokenizer.json", data)
    refused(pack, r"tokenizer\.json: ")
