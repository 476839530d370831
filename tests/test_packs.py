"""Packs: what a sound one gives, how it is found, what is refused in pack.json, and the command line."""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from hoirt.cli import pack as pack_command
from hoirt.errors import InputError, PackError
from hoirt.packs import Pack, find_pack, list_packs, open_pack, verify
from hoirt.packs import open as open_module
from hoirt.packs.manifest import PortSpec, parse_manifest
from hoirt.packs.onnx_file import inspect_onnx
from hoirt.packs.tensors_file import check_safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from pack_tools import copy_pack, edit_manifest, load_manifest

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# A sound pack


def test_open_gives_what_was_written(random_pack: Path) -> None:
    pack = open_pack(random_pack)
    assert (pack.name, pack.version, pack.verified) == ("random", "1", True)
    assert pack.settings.crop == 64
    assert (pack.settings.vae.factor, pack.settings.vae.scaling_factor) == (4, 0.2)
    assert pack.settings.size_multiple == 8
    assert pack.manifest.scheduler["_class_name"] == "DDIMScheduler"
    assert pack.network_file("step") == random_pack / "step.onnx"
    assert pack.has("mesh") and not pack.has("nothing")
    assert pack.bytes == sum(
        file.stat().st_size for file in random_pack.iterdir() if file.name != "pack.json"
    )
    constants = pack.constants()
    assert constants["faces"].shape == (80, 3)
    np.testing.assert_allclose(constants["joint_regressor"].sum(axis=1), 1.0, rtol=1e-5)
    with pytest.raises(InputError, match=r"no network 'nothing'; it has context, detector, hint"):
        pack.network_file("nothing")


def test_ports_agree_with_the_onnx_library(random_pack: Path) -> None:
    manifest = open_pack(random_pack).manifest
    assert set(manifest.networks) == {
        "detector", "mesh", "text_encoder", "vae_encoder", "vae_decoder", "hint", "time", "context", "step"
    }  # fmt: skip
    for network in manifest.networks.values():
        graph = onnx.load(random_pack / network.file, load_external_data=False).graph
        for values, ports in ((graph.input, network.inputs), (graph.output, network.outputs)):
            assert [value.name for value in values] == list(ports)
            for value in values:
                dims = value.type.tensor_type.shape.dim
                assert ports[value.name].shape == tuple(
                    d.dim_value if d.HasField("dim_value") else -1 for d in dims
                )


def test_import_is_light() -> None:
    heavy = ["torch", "onnx", "openvino", "tokenizers", "safetensors", "PIL", "diffusers"]
    code = f"import sys, hoirt.packs, hoirt.cli.pack; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Finding packs


def test_names_bundled_first_then_the_variable_then_paths(
    random_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled, first, second = (tmp_path / name for name in ("bundled", "first", "second"))
    for folder in (bundled / "tiny", first / "tiny", first / "mine", second / "mine", second / "other"):
        folder.mkdir(parents=True)
        (folder / "pack.json").write_text("{}")
    (second / "no-pack").mkdir()
    monkeypatch.setattr(open_module, "BUNDLED", bundled)
    monkeypatch.setenv(
        "HOIRT_PACKS", os.pathsep.join(["", str(first), str(tmp_path / "absent"), str(second)])
    )
    assert list_packs() == {"tiny": bundled / "tiny", "mine": first / "mine", "other": second / "other"}
    assert open_module.bundled() == ["tiny"]
    monkeypatch.chdir(second)
    assert find_pack("tiny") == bundled / "tiny"
    assert find_pack("mine") == first / "mine"  # a name before a path of the same spelling
    assert find_pack(Path("mine")) == Path("mine")  # a Path is never a name
    assert find_pack("./mine") == Path("mine")
    assert find_pack(str(random_pack)) == random_pack


@pytest.mark.parametrize("wrong", ["no-such-pack", "", "a\0b", 3, None, b"bytes", Path("/no/such/folder")])
def test_unknown_packs(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "pack.json").write_text("{}")
    monkeypatch.setenv("HOIRT_PACKS", str(tmp_path))
    with pytest.raises(InputError) as error:
        open_pack(wrong)
    if wrong == "no-such-pack":
        assert "known" in str(error.value)


# Levels of verification


def test_large_packs_are_hashed_on_demand(
    random_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "SMALL_PACK", 0)
    folder = copy_pack(random_pack, tmp_path / "pack")
    pack = open_pack(folder)
    assert not pack.verified
    sound = pack.network_hash("step")
    weights = bytearray((folder / "step.bin").read_bytes())
    weights[-1] ^= 1
    (folder / "step.bin").write_bytes(weights)
    damaged = open_pack(folder)  # the structure is sound
    assert damaged.network_hash("step") != sound, "a cache key must follow the content, not the manifest"
    assert damaged.network_hash("hint") == pack.network_hash("hint")
    damaged.verify(full=False)
    with pytest.raises(PackError, match=r"step\.bin: damaged: its sha256 is"):
        damaged.verify(full=True)
    monkeypatch.undo()
    with pytest.raises(PackError, match="damaged"):
        open_pack(folder)
    assert Pack(random_pack).network_hash("step") == sound


# pack.json


def _set(path: str, value: Any) -> Any:
    def edit(manifest: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        node = manifest
        for key in parents:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    return edit


EDITS = [
    ("schema", 2, r"pack\.json: schema: found the number 2, expected 1"),
    ("schema", True, r"schema: found true"),
    ("schema", ..., r"schema: is missing"),
    ("surprise", 1, r"surprise: unknown key; known here: schema, name"),
    ("task", "grasp", r"task: found the string 'grasp', expected one of 'hand-refine'"),
    ("name", "../x", r"name: found the string '\.\./x', expected a name"),
    ("files/step.onnx/bytes", "12", r"\['step\.onnx'\]\.bytes: found the string '12', expected an int"),
    ("files/step.onnx/bytes", -1, r"bytes: found the number -1"),
    ("files/step.onnx/bytes", 1.5, r"bytes: found the number 1\.5"),
    ("files/step.onnx/sha256", "A" * 64, r"sha256: .* expected 64 lower-case hexadecimal digits"),
    ("networks/step/file", "none.onnx", r"step\.file: found the string 'none\.onnx', expected a name"),
    ("networks/step", ..., r"networks\.step: is missing; the task hand-refine needs it"),
    ("networks/extra", {"file": "step.onnx", "inputs": {}, "outputs": {}}, r"extra: unknown network"),
    ("networks/step/inputs/sample", ..., r"networks\.step\.inputs: found .*expected .*'sample'"),
    ("networks/step/inputs/more", {"dtype": "float32", "shape": [-1]}, r"networks\.step\.inputs: found"),
    ("networks/step/inputs/sample/dtype", "float16", r"sample\.dtype: .* expected one of 'float32', 'int64'"),
    ("networks/step/inputs/sample/shape", [-1, 5, -1, -1], r"sample: found float32 \[-1, 5, -1, -1\]"),
    ("networks/step/inputs/sample/shape", [2, 4, -1, -1], r"sample: found float32 \[2, 4"),
    ("networks/step/inputs/sample/shape", [-1, 4, 0, -1], r"sample: found float32 \[-1, 4, 0"),
    ("networks/step/inputs/sample/shape", [-1, 4, -1], r"sample: found float32"),
    ("networks/step/inputs/hint/shape", [-1, 8, -1, -1], r"C0 is 8, but 32 in networks\.hint\.outputs\.hint"),
    ("networks/step/inputs/sample/shape/0", 1 << 40, r"sample\.shape\[0\]: found the number"),
    ("tokenizer/max_length", 77, r"T is 24, but 77 in tokenizer\.max_length"),
    ("constants", ..., r"constants: is missing; the network mesh needs its faces"),
    ("settings/crop", 66, r"settings\.crop: found the number 66, expected a multiple of size_multiple \(8\)"),
    ("settings/vae/factor", 0, r"settings\.vae\.factor: found the number 0, expected an integer from 1"),
    ("settings/steps", 0, r"settings\.steps"),
    ("settings/guidance", "2", r"settings\.guidance: found the string '2', expected a number"),
    ("settings/mask/pad", 2.0, r"settings\.mask\.pad: found the number 2\.0, expected a number from 0 to 1"),
    ("settings/mask/blur", 0.1, r"settings\.mask\.blur: unknown key; known here: pad, feather"),
    ("settings/precision", "int3", r"settings\.precision"),
    ("settings/negative_prompt", None, r"settings\.negative_prompt: found null, expected a string"),
    ("scheduler/_class_name", ..., r"scheduler\._class_name: is missing"),
    ("provenance", [1], r"provenance: found an array of 1, expected an object"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "message"), EDITS, ids=[f"{path}={value}"[:48] for path, value, _ in EDITS]
)
def test_every_difference_is_named(random_pack: Path, path: str, value: Any, message: str) -> None:
    manifest = load_manifest(random_pack)
    parse_manifest(json.dumps(manifest).encode())
    if path.endswith("/0"):
        manifest["networks"]["step"]["inputs"]["sample"]["shape"][0] = value
    else:
        _set(path, value)(manifest)
    with pytest.raises(PackError, match=message):
        parse_manifest(json.dumps(manifest).encode())


def test_optional_parts_and_unknown_settings(random_pack: Path) -> None:
    manifest = load_manifest(random_pack)
    for path in (
        "networks/detector",
        "networks/mesh",
        "constants",
        "provenance",
        "licence",
        "settings/storage",
    ):
        _set(path, ...)(manifest)
    manifest["settings"]["adaptive"] = {"low": 0.4}
    parsed = parse_manifest(json.dumps(manifest).encode())
    assert parsed.settings.extra == {"adaptive": {"low": 0.4}}
    assert parsed.constants is None and parsed.settings.storage == "fp32"
    manifest["networks"]["mesh"] = load_manifest(random_pack)["networks"]["mesh"]
    del manifest["networks"]["mesh"]["outputs"]["region"]
    manifest["constants"] = "constants.safetensors"
    assert "region" not in parse_manifest(json.dumps(manifest).encode()).networks["mesh"].outputs


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)


@FUZZ
@given(data=st.data(), value=JSON)
def test_any_value_anywhere_parses_or_is_a_pack_error(
    random_pack: Path, data: st.DataObject, value: Any
) -> None:
    manifest = load_manifest(random_pack)
    path = data.draw(st.sampled_from(_places(manifest)))
    if path:
        node = manifest
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    else:
        manifest = value
    try:
        parsed = parse_manifest(json.dumps(manifest).encode())
    except PackError as error:
        assert str(error).startswith("pack.json") and str(error).isprintable()
    else:
        assert parsed.task == "hand-refine"


@FUZZ
@given(junk=st.binary(max_size=64), at=st.integers(0, 5000), cut=st.integers(0, 64))
def test_damaged_json_is_a_pack_error_or_parses(random_pack: Path, junk: bytes, at: int, cut: int) -> None:
    text = (random_pack / "pack.json").read_bytes()
    try:
        parse_manifest(text[:at] + junk + text[at + cut :])
    except PackError as error:
        assert str(error).startswith("pack.json")


# The readers against the libraries

NUMPY_TYPES = ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "uint64", "bool"]
ARRAYS = st.builds(
    lambda dtype, shape: np.ones(shape, dtype),
    st.sampled_from(NUMPY_TYPES),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
)


def _model(*tensors: onnx.TensorProto, nested: bool = False) -> bytes:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [4, "W"])
    if nested:  # in a Constant in the branches of an If in a function
        constants = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
        branch = helper.make_graph(constants, "branch", [], [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        function = helper.make_function("own", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 20)])
        graph = helper.make_graph([helper.make_node("f", ["x"], ["y"], domain="own")], "g", [x], [y])
        return helper.make_model(graph, functions=[function]).SerializeToString()
    graph = helper.make_graph([], "g", [x], [y], initializer=list(tensors))
    return helper.make_model(graph).SerializeToString()


@FUZZ
@given(array=ARRAYS, typed=st.booleans(), nested=st.booleans(), axis=st.integers(0, 2))
def test_tensors_are_as_large_as_they_say(array: np.ndarray, typed: bool, nested: bool, axis: int) -> None:
    tensor = numpy_helper.from_array(array, "t")
    if typed:
        tensor = helper.make_tensor("t", tensor.data_type, array.shape, array.flatten().tolist())
    found = inspect_onnx("m.onnx", _model(tensor, nested=nested), {})
    assert found.inputs == {"x": PortSpec("x", "float32", (-1, 3))}
    assert found.outputs == {"y": PortSpec("y", "int64", (4, -1))}
    if axis < array.ndim and array.size:
        tensor.dims[axis] += 1
        with pytest.raises(PackError, match="the tensor 't' needs"):
            inspect_onnx("m.onnx", _model(tensor, nested=nested), {})


@FUZZ
@given(data=st.data(), nested=st.booleans())
def test_damaged_onnx_is_a_pack_error_or_read(data: st.DataObject, nested: bool) -> None:
    model = bytearray(_model(numpy_helper.from_array(np.ones((2, 3), np.float32), "t"), nested=nested))
    for at in data.draw(st.lists(st.integers(0, len(model) - 1), max_size=3)):
        model[at] = data.draw(st.integers(0, 255))
    try:
        inspect_onnx("m.onnx", bytes(model[: data.draw(st.integers(0, len(model)))]), {})
    except PackError as error:
        assert str(error).startswith("m.onnx: not a sound ONNX file") and str(error).isprintable()


@FUZZ
@given(arrays=st.dictionaries(st.text(min_size=1, max_size=5), ARRAYS, max_size=4), data=st.data())
def test_safetensors_refuses_at_least_what_the_library_refuses(
    arrays: dict[str, np.ndarray], data: st.DataObject
) -> None:
    sound = safetensors.numpy.save(arrays)
    if "__metadata__" not in arrays:
        check_safetensors("c", sound)
    damaged = bytearray(sound)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_safetensors("c", bytes(damaged))
    except PackError:
        return
    safetensors.numpy.load(bytes(damaged))


# The command line


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    pack_command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["pack", *arguments])
    code: int = args.run(args)
    return code


def test_command_line(random_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("info", str(random_pack)) == 0
    page = capsys.readouterr().out
    assert "DDIMScheduler" in page and "encoder_hidden_states" in page and "?x24x32" in page
    assert _run("info", str(random_pack), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    written = load_manifest(random_pack)
    assert told["ok"] and told["settings"].pop("extra") == {}
    assert told["settings"] == written["settings"] and told["files"] == written["files"]
    assert _run("verify", str(random_pack)) == 0
    assert "sound" in capsys.readouterr().out
    assert _run("verify", "no-such-pack") == 2
    assert "no-such-pack" in capsys.readouterr().err

    folder = copy_pack(random_pack, tmp_path / "bad")
    (folder / "hint.bin").unlink()
    assert _run("verify", str(folder)) == 1
    assert "hint.bin: is missing" in capsys.readouterr().err
    assert _run("verify", str(folder), "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"] and "hint.bin" in answer["error"]


def test_command_line_prints_no_control_characters(
    random_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_pack(random_pack, tmp_path / "pack")
    edit_manifest(folder, _set("description", "nice\x1b[2J\x07"))
    edit_manifest(folder, lambda manifest: copy.deepcopy(manifest))
    assert _run("info", str(folder)) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()
