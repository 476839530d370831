"""The exporter: every graph against its torch module in two runtimes, and that against diffusers."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from hoirt import _core
from hoirt.errors import PackError
from hoirt.packs import open_pack
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from export import networks
from export.handrefiner import AXES, scheduler_dict
from export.loop_invariants import ContextGraph, TimeGraph
from export.onnx_export import export_network
from export.pack_writer import new_pack
from export.tiny.random_pack import CAPTIONS, BlobDetector, make_modules, make_random_pack
from export.tokenizer import export_tokenizer, train_tokenizer
from export.weights_file import INLINE_BYTES

ROLES = ["detector", "mesh", "text_encoder", "vae_encoder", "vae_decoder", "hint", "time", "context", "step"]
TOKENS, WIDTH, HINT = 24, 32, 32
TIME, CONTEXT = 640, 768  # widths of all time and text projections of the random pack


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    """The torch modules behind the random pack (same seed)."""
    torch.set_num_threads(1)
    return make_modules(seed=0)


def wrap(role: str, modules: dict[str, Any]) -> torch.nn.Module:
    match role:
        case "text_encoder":
            return networks.TextEncoder(modules["text_encoder"])
        case "vae_encoder":
            return networks.VaeEncoder(modules["vae"])
        case "vae_decoder":
            return networks.VaeDecoder(modules["vae"])
        case "hint":
            return networks.HintGraph(modules["controlnet"])
        case "time":
            return TimeGraph(modules["unet"], modules["controlnet"])
        case "context":
            return ContextGraph(modules["unet"], modules["controlnet"])
        case "step":
            return networks.StepGraph(modules["unet"], modules["controlnet"])
    module: torch.nn.Module = modules[role]
    return module


def inputs(role: str, batch: int, h: int, w: int) -> dict[str, np.ndarray]:
    """Random inputs of a role; h, w in latent cells."""
    rng = np.random.default_rng(batch * 100 + h)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((batch, *shape), dtype=np.float32)

    match role:
        case "detector":
            return {"image": rng.random((batch, 3, 192, 192), dtype=np.float32)}
        case "mesh":
            return {"image": rng.random((batch, 3, 128, 128), dtype=np.float32)}
        case "text_encoder":
            return {"input_ids": rng.integers(0, 500, (batch, TOKENS))}
        case "vae_encoder":
            return {"image": np.tanh(normal(3, 4 * h, 4 * w))}
        case "vae_decoder":
            return {"latents": normal(4, h, w)}
        case "hint":
            return {"depth": rng.random((batch, 3, 4 * h, 4 * w), dtype=np.float32)}
        case "time":
            return {"timestep": rng.uniform(0, 999, batch).astype(np.float32)}
        case "context":
            return {"encoder_hidden_states": normal(TOKENS, WIDTH)}
    return {
        "sample": normal(4, h, w),
        "time": normal(TIME),
        "context": normal(TOKENS, CONTEXT),
        "hint": normal(HINT, h, w),
        "inpaint": normal(5, h, w),
        "control_scale": rng.uniform(0, 1, batch).astype(np.float32),
    }


@torch.no_grad()
def run_torch(module: torch.nn.Module, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    results = module(*(torch.from_numpy(array) for array in feed.values()))
    return [r.numpy() for r in (results if isinstance(results, tuple) else (results,))]


def run_onnxruntime(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, feed)
    return results


def close(found: list[np.ndarray], expected: list[np.ndarray], tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.abs(b).max() > 0, "an output of zeros would prove nothing"
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# Graphs against modules


@pytest.mark.parametrize("role", ROLES)
def test_graph_equals_module_in_onnxruntime_and_openvino(
    random_pack: Path, modules: dict[str, Any], role: str
) -> None:
    module, path = wrap(role, modules), random_pack / f"{role}.onnx"
    core = openvino.Core()
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(path, "CPU", config)
    # Neither is the size that was traced (2 x 16 x 24); the first is not a square, the second has one item.
    for batch, h, w in ((3, 8, 20), (1, 16, 16)):
        feed = inputs(role, batch, h, w)
        expected = run_torch(module, feed)
        if role == "detector":  # which of several equal heats is the peak may differ by rounding in noise
            expected, found = expected[1:], run_onnxruntime(path, feed)[1:]
        else:
            found = run_onnxruntime(path, feed)
        close(found, expected)
        results = compiled(feed)
        close([np.array(results[i]) for i in range(len(results))][-len(expected) :], expected)


def test_step_equals_diffusers_used_as_usual(modules: dict[str, Any]) -> None:
    unet, controlnet = modules["unet"], modules["controlnet"]
    step, hint, time, context = (wrap(role, modules) for role in ("step", "hint", "time", "context"))
    feed = {key: torch.from_numpy(array) for key, array in inputs("step", 2, 8, 16).items()}
    depth = torch.rand(2, 3, 32, 64)
    timestep, text = torch.tensor([871.0, 13.0]), torch.randn(2, TOKENS, WIDTH)
    with torch.no_grad():
        feed |= {"hint": hint(depth), "time": time(timestep), "context": context(text)}
        for scale in (0.0, 0.7, 1.0):
            feed["control_scale"] = torch.full((2,), scale)
            down, mid = controlnet(
                feed["sample"],
                timestep,
                text,
                controlnet_cond=depth,
                conditioning_scale=scale,
                return_dict=False,
            )
            expected = unet(
                torch.cat([feed["sample"], feed["inpaint"]], dim=1),
                timestep,
                text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
            torch.testing.assert_close(step(*feed.values()), expected, rtol=1e-5, atol=1e-5)
        # One strength per item: each item as if it were alone; and the strength matters.
        feed["control_scale"] = torch.tensor([0.25, 1.0])
        both = step(*feed.values())
        for i in range(2):
            alone = step(*(tensor[i : i + 1] for tensor in feed.values()))
            torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)
        assert (both[1] - expected[1]).abs().max() < 1e-4 < (both[0] - expected[0]).abs().max()


def test_the_given_controlnet_is_not_touched(modules: dict[str, Any]) -> None:
    controlnet = modules["controlnet"]
    twin = networks.without_hint_embedding(controlnet)
    assert isinstance(twin.controlnet_cond_embedding, torch.nn.Identity)
    assert not isinstance(controlnet.controlnet_cond_embedding, torch.nn.Identity)
    assert twin.conv_in.weight is controlnet.conv_in.weight


def test_vae_wrapper_equals_the_posterior_of_diffusers(modules: dict[str, Any]) -> None:
    vae = copy.deepcopy(modules["vae"])
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        vae.quant_conv.bias[4:6] += 100.0  # the clamp at 20 must show
        posterior = vae.encode(image).latent_dist
        mean, logvar = networks.VaeEncoder(vae)(image)
        assert torch.equal(mean, posterior.mode()) and torch.equal(torch.exp(0.5 * logvar), posterior.std)
        assert logvar[:, :2].min() == 20.0 and logvar[:, 2:].max() < 20.0


def test_wrong_networks_are_refused(modules: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"UNet of 9 or 4 and a ControlNet of 4 input channels, got \(9, 9\)"
    ):
        networks.StepGraph(modules["unet"], modules["unet"])


# Storage and determinism


def rounded(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose matrices went through float16, by the rule of export_network."""
    module = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in module.parameters():
            matrix = sum(extent > 1 for extent in parameter.shape) >= 2
            if matrix and parameter.numel() * 4 >= INLINE_BYTES:
                parameter.copy_(parameter.half().float())
    return module


@pytest.mark.parametrize("role", ["text_encoder", "vae_decoder", "step"])
def test_half_storage_equals_rounded_weights(tmp_path: Path, modules: dict[str, Any], role: str) -> None:
    module, path = wrap(role, modules), tmp_path / "net.onnx"
    example = {key: torch.from_numpy(array) for key, array in inputs(role, 2, 8, 8).items()}
    export_network(module, example, AXES[role], path, storage="fp16")
    feed = inputs(role, 1, 16, 8)
    found = run_onnxruntime(path, feed)
    close(found, run_torch(rounded(module), feed), 1e-4)
    assert not np.allclose(found[0], run_torch(module, feed)[0], rtol=1e-5, atol=1e-5), (
        "the rounding must show"
    )
    weights = sum(p.numel() for p in module.parameters())
    assert path.with_suffix(".bin").stat().st_size < 2.4 * weights


def test_weights_that_do_not_fit_into_halves(tmp_path: Path) -> None:
    module = torch.nn.Linear(64, 64)
    with torch.no_grad():
        module.weight[3, 3] = 1e5
    with pytest.raises(ValueError, match="does not fit into float16"):
        export_network(
            module, {"x": torch.ones(1, 64)}, {"x": {0: "N"}, "y": {0: "N"}}, tmp_path / "n.onnx", "fp16"
        )


def test_dynamo_gives_the_same_network(tmp_path: Path, modules: dict[str, Any]) -> None:
    module, path = wrap("text_encoder", modules), tmp_path / "net.onnx"
    example = {"input_ids": torch.from_numpy(inputs("text_encoder", 2, 8, 8)["input_ids"])}
    export_network(module, example, AXES["text_encoder"], path, exporter="dynamo")
    feed = inputs("text_encoder", 3, 8, 8)
    close(run_onnxruntime(path, feed), run_torch(module, feed))


def test_same_bytes_in_another_process(random_pack: Path, tmp_path: Path) -> None:
    code = """
import sys, pathlib, torch
from export import networks
from export.graphs import AXES, make_examples
from export.onnx_export import export_network
from export.streaming import export_network_streaming
from export.tiny.random_pack import make_modules
m = make_modules(0)
examples = make_examples(m["unet"], m["controlnet"], 24, 4, 8)
for role, module, export in (
    ("vae_encoder", networks.VaeEncoder(m["vae"]), export_network_streaming),
    ("detector", m["detector"], export_network),
):
    export(module, examples[role], AXES[role], pathlib.Path(sys.argv[1]) / f"{role}.onnx")
"""
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, check=True, capture_output=True
    )
    files = open_pack(random_pack).manifest.files
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {name for name in files if name.startswith(("vae_encoder.", "detector."))}
    for name in names:
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == files[name].sha256


def test_files_say_nothing_of_where_they_were_made(random_pack: Path) -> None:
    here = str(Path(__file__).parents[1]).encode()
    for file in random_pack.iterdir():
        data = file.read_bytes()
        assert here not in data and b"site-packages" not in data and b".py" not in data, file.name
    model = onnx.load(random_pack / "step.onnx", load_external_data=False)
    assert model.producer_name == "hoirt" and not model.metadata_props
    offsets = [int(e.value) for t in model.graph.initializer for e in t.external_data if e.key == "offset"]
    assert offsets and all(offset % 64 == 0 for offset in offsets)


# The folder


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), new_pack(tmp_path / "pack") as folder:
        (folder / "file").write_text("half")
        raise RuntimeError("boom")
    assert list(tmp_path.iterdir()) == []


def test_a_pack_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "pack"
    with new_pack(out) as folder:
        (folder / "old").write_text("old")
    with pytest.raises(FileExistsError, match="overwrite=True"), new_pack(out):
        raise AssertionError("not reached")
    with pytest.raises(RuntimeError), new_pack(out, overwrite=True):
        raise RuntimeError
    assert [file.name for file in out.iterdir()] == ["old"]
    with new_pack(out, overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert [file.name for file in out.iterdir()] == ["new"] and [p.name for p in out.parent.iterdir()] == [
        "pack"
    ]


def test_settings_that_would_be_refused_fail_early(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"settings\.crop: found the number 66"):
        make_random_pack(tmp_path / "pack", crop=66)
    assert list(tmp_path.iterdir()) == []


# Tokenizer


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Tokenizer]:
    """transformers' tokenizer, and what the runtime makes of its export."""
    clip = train_tokenizer(CAPTIONS * 3, vocab_size=560, max_length=TOKENS)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(export_tokenizer(clip).text, encoding="utf-8")
    return clip, Tokenizer.from_file(str(path))


WORDS = st.lists(
    st.sampled_from(["a", "hand", "palm", "open", "two", "fist", "2", ",", ".", "'s"]), max_size=40
)


@settings(deadline=None)
@given(text=st.text(max_size=60) | WORDS.map(" ".join))
def test_tokenizer_equals_transformers(tokenizers: tuple[Any, Tokenizer], text: str) -> None:
    clip, runtime = tokenizers
    ids = runtime.encode(text).ids
    assert ids == clip(text, padding="max_length", truncation=True, max_length=TOKENS)["input_ids"]
    assert len(ids) == TOKENS and ids[0] == clip.bos_token_id and clip.eos_token_id in ids


def test_trained_tokenizer_is_clip_like(tokenizers: tuple[Any, Tokenizer]) -> None:
    clip, runtime = tokenizers
    assert 514 < len(clip) <= 560
    assert (clip.bos_token_id, clip.eos_token_id) == (len(clip) - 2, len(clip) - 1)
    assert clip.pad_token_id == clip.eos_token_id
    assert len(clip("a malformed hand")["input_ids"]) < 8, "frequent words are few tokens"
    assert clip.decode(clip("An open PALM")["input_ids"], skip_special_tokens=True) == "an open palm"
    # Bytes that no caption has still have ids of their own: nothing but the end is the end token.
    assert runtime.encode("\u4f60\u00e9~Z").ids.count(clip.eos_token_id) == TOKENS - runtime.encode(
        "\u4f60\u00e9~Z"
    ).ids.index(clip.eos_token_id)
    assert export_tokenizer(train_tokenizer(CAPTIONS * 3, 560, TOKENS)).text == export_tokenizer(clip).text
    with pytest.raises(ValueError, match="at least 514"):
        train_tokenizer(CAPTIONS, vocab_size=513)
    with pytest.raises(TypeError, match="need a CLIP tokenizer"):
        export_tokenizer("x")  # type: ignore[arg-type]


# The hand-made networks of the random pack: other tests rely on what they find


@pytest.mark.parametrize(("left", "colour"), [(True, (1.0, 0.3, 0.0)), (False, (1.0, 0.0, 0.3))])
def test_detector_finds_red_blobs(left: bool, colour: tuple[float, float, float]) -> None:
    image = torch.full((1, 3, 192, 192), 0.5)
    image[0, :, 40:80, 90:130] = torch.tensor(colour)[:, None, None]
    score, center, side, leftness = BlobDetector()(image)
    assert torch.nonzero(score[0] > 0.5).tolist() == [[7, 13]]
    assert ((center[0, :, 7, 13] + torch.tensor([13, 7])) * 8 - torch.tensor([110.0, 60.0])).abs().max() < 0.1
    assert abs(float(side[0, 7, 13].exp()) * 192 - 40) < 0.5
    assert (float(leftness[0, 7, 13]) > 0.9) == left
    assert float(BlobDetector()(torch.full((1, 3, 192, 192), 0.7))[0].max()) == 0.0


def test_mesh_is_seen_by_its_camera(random_pack: Path) -> None:
    vertices, camera, _ = run_onnxruntime(random_pack / "mesh.onnx", inputs("mesh", 1, 0, 0))
    side = 128.0
    scale, x, y = camera[0]
    focal = 1000 * side / 224
    placed = vertices[0] + np.array([x, y, 2 * focal / (side * scale)], np.float32)
    faces = open_pack(random_pack).constants()["faces"]
    options: dict[str, Any] = {"intrinsics": (focal, focal, side / 2, side / 2), "size": (128, 128)}
    depth = _core.rasterize(placed, faces, **options)["depth"]
    culled = _core.rasterize(placed, faces, **options, cull_back_faces=True)["depth"]
    assert 0.1 < (depth > 0).mean() < 0.6
    np.testing.assert_array_equal(culled, depth)  # closed, wound outwards


def test_scheduler_dict_has_its_class() -> None:
    from diffusers import DDIMScheduler

    assert scheduler_dict(DDIMScheduler())["_class_name"] == "DDIMScheduler"
