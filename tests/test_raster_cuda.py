"""The rasteriser on a CUDA device: the same bits as on the CPU. Skipped where there is no device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hoirt import InputError, _core
from hoirt.backends import devices
from raster_meshes import KINDS, tessellated

CAMERA = (90.0, 110.0, 31.5, 24.25)
SIZE = (48, 64)
ALL = ("depth", "instances", "faces", "barycentrics", "normals", "silhouette")


@pytest.fixture(scope="module")
def cuda() -> Any:
    """The module _core_cuda."""
    module = pytest.importorskip("hoirt._core_cuda", reason="hoirt was built without CUDA")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return module


def test_it_gives_what_the_rest_gives() -> None:
    """One class for arrays on devices; the module of devices shows it without a device."""
    module = pytest.importorskip("hoirt._core_cuda", reason="hoirt was built without CUDA")
    assert "dict[str, hoirt._core.DeviceTensor]" in module.rasterize.__doc__
    with pytest.raises(InputError, match="vertices must be on a CUDA device"):
        module.rasterize(np.ones((3, 3)), [[0, 1, 2]], intrinsics=CAMERA, size=SIZE)


def test_arrays_of_hoirt_go_in_and_out(cuda: Any) -> None:
    opened = devices.open_device("cuda")
    vertices = np.array([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    options: dict[str, Any] = {"intrinsics": CAMERA, "size": SIZE, "outputs": ALL}
    drawn = cuda.rasterize(opened.upload(vertices), opened.upload(faces), stream=opened.stream(), **options)
    for name, array in _core.rasterize(vertices, faces, **options).items():
        assert isinstance(drawn[name], _core.DeviceTensor)
        np.testing.assert_array_equal(drawn[name].numpy(), array)


def on_cpu(drawn: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: torch.from_dlpack(array).cpu().numpy() for name, array in drawn.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_the_same_bits_as_on_the_cpu(cuda: Any, kind: str, dtype: torch.dtype, index: torch.dtype) -> None:
    clip = torch.from_numpy(np.stack([KINDS[kind](np.random.default_rng(seed)) for seed in range(5)])).to(
        dtype
    )
    faces = torch.arange(clip.shape[1], dtype=index).reshape(-1, 3)
    instances = torch.arange(len(faces), dtype=torch.int32) * 7
    poses = np.tile(np.eye(4)[:3], (5, 1, 1))
    poses[:, 2, 3] = np.linspace(0, 0.4, 5)
    options = {"intrinsics": CAMERA, "extrinsics": poses, "size": SIZE, "near": 0.05, "outputs": ALL}
    wanted = _core.rasterize(clip, faces, instances=instances, **options)
    for place in ("cuda", "cpu"):  # of faces and instances
        drawn = on_cpu(cuda.rasterize(clip.cuda(), faces.to(place), instances=instances.to(place), **options))
        assert set(drawn) == set(wanted)
        for name in ALL:
            np.testing.assert_array_equal(drawn[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("scale", [0.2, 500.0])
def test_large_faces_and_a_stream(cuda: Any, scale: float) -> None:
    flat, faces = tessellated(np.random.default_rng(1), 6)
    vertices = np.concatenate([flat * scale, 1 + 0.4 * scale * flat[:, 1:]], axis=1)
    options = {"intrinsics": (600.0, 600.0, 360.5, 240.5), "size": (480, 720), "outputs": ALL}
    wanted = _core.rasterize(vertices, faces, **options)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        drawn = cuda.rasterize(
            torch.from_numpy(vertices).cuda(),
            torch.from_numpy(faces).cuda(),
            stream=stream.cuda_stream,
            **options,
        )
        for name, array in on_cpu(drawn).items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_wrong_faces_and_vertices_on_the_device_are_not_drawn(cuda: Any) -> None:
    vertices = torch.tensor([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1], [torch.nan, 0, 1]]).cuda()
    faces = torch.tensor([[0, 1, 9], [-1, 1, 2], [0, 1, 3], [0, 1, 2]]).cuda()
    drawn = on_cpu(cuda.rasterize(vertices, faces, intrinsics=CAMERA, size=SIZE, outputs=("faces",)))
    assert set(np.unique(drawn["faces"])) == {-1, 3}


def test_wrong_input_is_refused(cuda: Any) -> None:
    vertices, faces = torch.ones(3, 3).cuda(), torch.tensor([[0, 1, 2]])
    options: dict[str, Any] = {"intrinsics": CAMERA, "size": SIZE}
    for arguments, words in [
        ((vertices.cpu(), faces), "CUDA device"),
        ((torch.ones(3, 4).cuda()[:, :3], faces), "contiguous"),
        ((vertices.half(), faces), "float32"),
        ((vertices, faces + 1), "names the vertex 3"),
        ((vertices, faces[0]), "faces must have shape"),
    ]:
        with pytest.raises(InputError, match=words):
            cuda.rasterize(*arguments, **options)
