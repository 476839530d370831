"""MeshGraphormer: equal to an evaluation from the facts, its weights by their published names, its export."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import hoirt.backends
import numpy as np
import pytest
import torch
from hoirt.hands.detect import Detection
from hoirt.hands.mesh import MeshEstimator
from mesh_graphormer_reference import (
    SMALL,
    Extents,
    evaluate,
    hrnet,
    hrnet_shapes,
    is_dead,
    published_shapes,
    random_state,
)
from mesh_graphormer_tools import hand_tensors, write_data, write_mano
from safetensors.torch import save_file
from torch import Tensor

from export.checkpoints import CheckpointError
from export.hollow import hollow, without_memory
from export.mesh_graphormer import MeshGraphormer, Size, build_mesh_network
from export.mesh_graphormer.constants import read_constants
from export.mesh_graphormer.hrnet import HRNetSize
from export.mesh_graphormer.weights import find_weights, live, load_weights
from export.onnx_export import export_network
from export.streaming import export_network_streaming
from export.weights_file import Storage

AXES = {port: {0: "N"} for port in ("image", "vertices", "camera")}
SMALL_SIZE = Size(HRNetSize(8, 8, (1, 2, 1), 1, 4, 48), (32, 16, 16), (24, 20), 10)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the spread of `b`."""
    return float((a.double() - b.double()).abs().max() / b.double().std())


def empty() -> MeshGraphormer:
    with without_memory():
        return MeshGraphormer(*hand_tensors(), SMALL_SIZE).eval()


def loaded(path: Path) -> MeshGraphormer:
    module = empty()
    load_weights(module, find_weights(path, module))
    return module


def save(state: dict[str, Tensor], path: Path, *, old: bool = False) -> Path:
    torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=not old)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_state(published_shapes(SMALL))


@pytest.fixture(scope="module")
def network(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> MeshGraphormer:
    return loaded(save(state, tmp_path_factory.mktemp("weights") / "hand.bin"))


@pytest.fixture(scope="module")
def exported(network: MeshGraphormer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "mesh.onnx"
    export_network(network, {"image": torch.rand(2, 3, 224, 224)}, AXES, path)
    return path


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


def test_published_size_equals_the_facts(tmp_path: Path) -> None:
    """The whole way at full size: the file with its 214 million weights, the constants, one forward pass."""
    shapes = published_shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == 213_794_765
    weights = random_state(shapes)
    file = save(weights, tmp_path / "graphormer_hand_state_dict.bin")
    module, constants = build_mesh_network(file, write_mano(tmp_path), write_data(tmp_path / "data"))
    assert sum(p.numel() for p in module.parameters()) < 169_000_000
    image = images(1)
    with torch.inference_mode():
        vertices, camera = module(image)
    expected = evaluate(weights, image, module.template, _adjacency(module), dtype=torch.float32)
    assert vertices.shape == (1, 778, 3) and camera.shape == (1, 3)
    assert relative(vertices, expected[0]) <= 1e-4
    assert relative(camera, expected[1]) <= 1e-4
    assert constants["faces"].shape == (1538, 3) and constants["joint_regressor"].shape == (21, 778)


def _adjacency(module: MeshGraphormer) -> Tensor:
    (found,) = {id(b): b for name, b in module.named_buffers() if name.endswith("adjacency")}.values()
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_small_size_equals_the_facts_in_float64(
    network: MeshGraphormer, state: dict[str, Tensor], count: int
) -> None:
    image = images(count, seed=count)
    expected = evaluate(state, image, *hand_tensors(), SMALL)
    with torch.inference_mode():
        found = network(image)
    for part, want in zip(found, expected, strict=True):
        assert relative(part, want) <= 1e-4


def test_every_live_weight_matters(network: MeshGraphormer) -> None:
    """The gradient of the outputs reaches every parameter, but for biases that a softmax cancels."""
    module = empty()
    module.load_state_dict(network.state_dict(), assign=True)
    module.requires_grad_(True)
    vertices, camera = module(images(1))
    (vertices.std() + camera.sum()).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("self.key.bias"):  # adds the same to all scores of a query
            assert float(parameter.grad.abs().max()) > 0, name


def test_constants_are_part_of_the_graph(state: dict[str, Tensor], network: MeshGraphormer) -> None:
    """Other constants give another hand, as in the evaluation from the facts."""
    template, adjacency = hand_tensors(seed=1)
    other = MeshGraphormer(template, adjacency, SMALL_SIZE).eval()
    other.load_state_dict(network.state_dict())
    with torch.inference_mode():
        found, before = other(images(1)), network(images(1))
    expected = evaluate(state, images(1), template, adjacency, SMALL)
    assert relative(found[0], expected[0]) <= 1e-4
    assert relative(found[0], before[0]) > 1e-2


def test_backbone_has_the_names_and_numbers_of_timm() -> None:
    """Where timm can be imported (it needs a torchvision that fits torch)."""
    timm = pytest.importorskip(
        "timm", reason="timm or its torchvision is not installed", exc_type=ImportError
    )
    theirs = timm.create_model("hrnet_w64", pretrained=False).eval()
    assert {key: tuple(v.shape) for key, v in theirs.state_dict().items()} == hrnet_shapes(Extents())
    weights = random_state(hrnet_shapes(Extents()))
    theirs.load_state_dict(weights, strict=False)
    with torch.inference_mode():
        _, features = hrnet(lambda key: weights[key], images(1), Extents())
        expected = theirs.forward_features(images(1)).mean(dim=(2, 3))
    assert relative(features, expected) <= 1e-4


def test_onnx_equals_torch(network: MeshGraphormer, exported: Path) -> None:
    run = hoirt.backends.load("openvino").open(str(exported)).run
    for count in (1, 3):  # neither is the batch that was traced
        image = images(count, seed=5)
        with torch.inference_mode():
            vertices, camera = network(image)
        found = run({"image": image.numpy()})
        assert relative(torch.from_numpy(found["vertices"]), vertices) <= 1e-4
        assert relative(torch.from_numpy(found["camera"]), camera) <= 1e-4


@pytest.mark.parametrize("storage", ["fp32", "fp16"])
def test_weights_are_streamed_into_the_graph_by_name(
    storage: Storage, state: dict[str, Tensor], network: MeshGraphormer, tmp_path: Path
) -> None:
    """A module of placeholders gives the graph whose weights are read from the file when they are written."""
    file = save(state, tmp_path / "hand.bin")
    module = empty()
    hollow(module, find_weights(file, module))
    export_network_streaming(module, {"image": images(2)}, AXES, tmp_path / "mesh.onnx", storage)
    found = (
        hoirt.backends.load("openvino").open(str(tmp_path / "mesh.onnx")).run({"image": images(3).numpy()})
    )
    with torch.inference_mode():
        vertices, camera = network(images(3))
    limit = 1e-4 if storage == "fp32" else 2e-2
    assert relative(torch.from_numpy(found["vertices"]), vertices) <= limit
    assert relative(torch.from_numpy(found["camera"]), camera) <= limit


@pytest.mark.parametrize("side", ["right", "left"])
def test_keypoints_are_those_of_the_released_formula(exported: Path, tmp_path: Path, side: str) -> None:
    """f = 1000 L / 224; t = (-tx, -ty, -2 f / (L s + 1e-9)); P - t; f (X / Z, Y / Z) + L / 2 in the crop."""
    hand = read_constants(write_mano(tmp_path), write_data(tmp_path / "data"))
    network = hoirt.backends.load("openvino").open(str(exported))
    estimator = MeshEstimator(
        network, faces=hand.faces, joint_regressor=hand.joint_regressor, input_size=224, box_scale=1.6
    )
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    box = (120.0, 60.0, 260.0, 200.0)
    (found,) = estimator(picture, [Detection(box, 1.0, side)])  # type: ignore[arg-type]

    side_length = 1.6 * 140  # = 224: the crop needs no resampling
    left, top = 190 - side_length / 2, 130 - side_length / 2
    crop = picture[round(top) : round(top) + 224, round(left) : round(left) + 224]
    crop = crop[:, ::-1] if side == "left" else crop
    outputs = network.run({"image": np.ascontiguousarray(crop.transpose(2, 0, 1)[None] / 255, np.float32)})
    vertices, (s, tx, ty) = outputs["vertices"][0].astype(np.float64), outputs["camera"][0].astype(np.float64)
    assert 0.1 < s < 20
    f = 1000 * side_length / 224
    points = vertices - np.array([-tx, -ty, -2 * f / (side_length * s + 1e-9)])
    x, y, z = (hand.joint_regressor.astype(np.float64) @ points).T
    # The rows of the regressor sum to 1, so that moving the mesh or its joints is the same.
    assert np.abs(hand.joint_regressor.sum(axis=1) - 1).max() < 1e-5
    joints = np.stack([f * x / z, f * y / z], axis=1) + side_length / 2
    if side == "left":
        joints[:, 0] = side_length - joints[:, 0]
    assert np.abs(found.keypoints - joints - (left, top)).max() <= 1e-3


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors", "half", "wrapped"])
def test_every_kind_of_file(
    kind: str, state: dict[str, Tensor], network: MeshGraphormer, tmp_path: Path
) -> None:
    path = tmp_path / ("hand.safetensors" if kind == "safetensors" else "hand.bin")
    if kind == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    elif kind == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        save(halves if kind == "half" else state, path, old=kind == "old")
    module = loaded(path)
    assert not any(t.is_meta for t in (*module.parameters(), *module.buffers()))
    assert all(p.dtype == torch.float32 for p in module.parameters())
    wanted = live(network)
    for key, tensor in live(module).items():
        want = wanted[key]
        assert torch.equal(tensor, want.half().float() if kind == "half" else want), key


def test_dead_weights_may_be_missing(state: dict[str, Tensor], tmp_path: Path) -> None:
    loaded(save({k: v for k, v in state.items() if not is_dead(k)}, tmp_path / "hand.bin"))


def edited(change: Callable[[dict[str, Tensor]], object]) -> dict[str, Tensor]:
    weights = random_state(published_shapes(SMALL))
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("upsampling.bias"), r"1 of \d+ keys are missing: upsampling\.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), r"MeshGraphormer for hands: 1 keys are unexpected: extra"),
        (
            lambda w: [w.pop(k) for k in list(w) if k.startswith("backbone")],
            r"missing: backbone.*and \d+ more",
        ),
        (
            lambda w: w.update({"cam_param_fc.bias": torch.zeros(2)}),
            r"cam_param_fc.bias is \[2\], needed \[1\]",
        ),
        (lambda w: w.update({"cam_param_fc.bias": torch.zeros(1, dtype=torch.int64)}), "int64.*floating"),
        (lambda w: w["upsampling.weight"].__setitem__((3, 3), torch.nan), "upsampling.weight holds NaN"),
        (
            lambda w: w["upsampling.weight"].__setitem__((3, 3), -torch.inf),
            "upsampling.weight holds NaN or inf",
        ),
        (lambda w: w.update({"upsampling.weight": torch.zeros(1723, 431)}), "for bodies"),
        (lambda w: w.clear(), "hand.bin"),
    ],
)
def test_wrong_weights_are_refused(
    change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path
) -> None:
    weights = random_state(published_shapes(SMALL))
    change(weights)
    with pytest.raises(CheckpointError, match=message) as error:
        loaded(save(weights, tmp_path / "hand.bin"))
    assert len(str(error.value)) < 3000


def test_the_backbone_alone_is_named(tmp_path: Path) -> None:
    """hrnetv2_w64_imagenet_pretrained.pth, which the released code loads too, is not the network."""
    shapes = hrnet_shapes(Extents(8, 8, (1, 1, 1), 1, 4, 48))
    with pytest.raises(CheckpointError, match="the weights of an HRNet"):
        loaded(save(random_state(shapes), tmp_path / "hrnet.pth"))


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return pytest.fail, ("the file was run",)


@pytest.mark.parametrize("old", [True, False])
def test_a_file_that_wants_to_run_code_is_refused(old: bool, tmp_path: Path) -> None:
    path = tmp_path / "hand.bin"
    torch.save({"upsampling.bias": Hostile()}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match="Nothing of it was run"):
        loaded(path)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_what_is_no_file_of_weights(suffix: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"hand{suffix}"
    with pytest.raises(CheckpointError, match="no such file"):
        loaded(path)
    path.mkdir()
    with pytest.raises(CheckpointError, match="not a file"):
        loaded(path)
    path.rmdir()
    if suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        save(state, path)
    whole = path.read_bytes()
    for content in (b"", b"PK\3\4", b"\x80\x02}.", b"not a pickle", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="hand"):
            loaded(path)
