"""Parts that not every pack has: second text encoder, landmarker, size of the mesh, shared weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hoirt import backends
from hoirt.packs import open_pack
from pack_tools import edit_manifest, load_manifest, refused, replace_file

ADDED = {
    "pooled": {"dtype": "float32", "shape": [-1, 16]},
    "time_ids": {"dtype": "float32", "shape": [-1, 6]},
}


def test_parts_are_absent_by_default(pack: Path) -> None:
    opened = open_pack(pack)
    assert opened.tokenizer_2_file() is None and opened.landmarker_file() is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda m: m.update(tokenizer_2=m["tokenizer"]),
            "tokenizer_2: needs a network text_encoder_2",
        ),
        (
            lambda m: m["networks"]["time"]["inputs"].update(pooled={"dtype": "float32", "shape": [-1, 8]}),
            r"networks\.time\.inputs\.pooled: needs a network text_encoder_2",
        ),
        (
            lambda m: m["networks"].update(text_encoder_2=_second(m, 16)),
            "tokenizer_2: is missing; the network text_encoder_2 needs it",
        ),
        (
            lambda m: m["networks"]["context"]["inputs"]["encoder_hidden_states"].update(shape=[-1, 24, 33]),
            "D is 33, but the text encoders give 32",
        ),
        (
            lambda m: m["networks"]["mesh"]["outputs"]["region"].update(shape=[-1, 64, 64]),
            r"M is 64, but 128 in networks\.mesh\.inputs\.image",
        ),
        (lambda m: m.update(landmarker="hand_landmarker.task"), "a name that is listed under 'files'"),
        (lambda m: m.update(landmarker="../secret.bin"), "a bare file name"),
        (lambda m: m["networks"]["step"]["inputs"].pop("sample"), r"networks\.step\.inputs: found"),
        (lambda m: m["settings"].update(storage="int4"), r"settings\.storage"),
    ],
)
def test_manifests_that_do_not_add_up(pack: Path, edit: Any, message: str) -> None:
    edit_manifest(pack, edit)
    refused(pack, message)


def _second(manifest: dict[str, Any], width: int) -> dict[str, Any]:
    entry: dict[str, Any] = manifest["networks"]["text_encoder"]
    outputs = {
        "last_hidden_state": {"dtype": "float32", "shape": [-1, 24, width]},
        "pooled": {"dtype": "float32", "shape": [-1, width]},
    }
    return {**entry, "outputs": outputs}


def test_widths_of_two_text_encoders_add_up(pack: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["networks"]["text_encoder_2"] = _second(manifest, 16)
        manifest["tokenizer_2"] = manifest["tokenizer"]
        manifest["networks"]["time"]["inputs"].update(ADDED)

    edit_manifest(pack, edit)
    refused(pack, r"D is 32, but the text encoders give 32 \+ 16")


def test_lengths_of_two_tokenizers_agree(pack: Path) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["networks"]["text_encoder_2"] = _second(manifest, 16)
        manifest["tokenizer_2"] = {**manifest["tokenizer"], "max_length": 12}
        manifest["networks"]["time"]["inputs"].update(ADDED)

    edit_manifest(pack, edit)
    refused(pack, r"tokenizer_2\.max_length: is 12, but 24 in tokenizer\.max_length")


def test_a_landmarker_is_a_file_of_the_pack(pack: Path) -> None:
    replace_file(pack, "hand_landmarker.task", b"a zip of models")
    edit_manifest(pack, lambda m: m.update(landmarker="hand_landmarker.task"))
    opened = open_pack(pack)
    assert opened.landmarker_file() == pack.absolute() / "hand_landmarker.task"
    (pack / "hand_landmarker.task").unlink()
    refused(pack, r"hand_landmarker\.task: is missing")


def test_networks_may_share_one_file_of_weights(pack: Path) -> None:
    feeds = {
        "hint": {"depth": np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)},
        "time": {"timestep": np.array([801.0, 1.0], np.float32)},
    }
    before = {role: _run(pack, role, feed) for role, feed in feeds.items()}
    shared, start = b"", 0
    for role in feeds:
        model = onnx.load(pack / f"{role}.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "shared.bin"
                elif entry.key == "offset":
                    entry.value = str(int(entry.value) + start)
        shared += (pack / f"{role}.bin").read_bytes()
        shared += b"\0" * (-len(shared) % 4096)
        start = len(shared)
        replace_file(pack, f"{role}.onnx", model.SerializeToString())
        (pack / f"{role}.bin").unlink()
        edit_manifest(pack, lambda m, role=role: m["files"].pop(f"{role}.bin"))
        replace_file(pack, "shared.bin", shared)
    assert "shared.bin" in load_manifest(pack)["files"]
    for role, feed in feeds.items():
        for a, b in zip(_run(pack, role, feed), before[role], strict=True):
            np.testing.assert_array_equal(a, b)


def _run(pack: Path, role: str, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    path = str(open_pack(pack).network_file(role))
    network = backends.load().open(path, cache_path="", precision="fp32", threads=1)
    return list(network.run(feed).values())
