"""The rasteriser on a CUDA device: the same bits as on the CPU. Skipped where there is no device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from device_tools import back, device, needs_torch
from hoirt import InputError, _core
from raster_meshes import KINDS, tessellated

CAMERA = (90.0, 110.0, 31.5, 24.25)
SIZE = (48, 64)
ALL = ("depth", "instances", "faces", "barycentrics", "normals", "silhouette")


def test_it_gives_what_the_rest_gives() -> None:
    """One class for arrays on devices; the module of devices shows it without a device."""
    module = pytest.importorskip("hoirt._core_cuda", reason="hoirt was built without CUDA")
    assert "dict[str, hoirt._core.DeviceTensor]" in module.rasterize.__doc__
    with pytest.raises(InputError, match="vertices must be on a CUDA device"):
        module.rasterize(np.ones((3, 3)), [[0, 1, 2]], intrinsics=CAMERA, size=SIZE)


def there(array: Any) -> _core.DeviceTensor:
    """NumPy's or torch's array of the CPU, on the device."""
    return device("cuda:0").upload(np.ascontiguousarray(array))  # type: ignore[no-any-return]


def draw(cuda: Any, *arrays: Any, **options: Any) -> dict[str, np.ndarray]:
    """What is drawn on the stream on which the arrays came."""
    drawn = cuda.rasterize(*arrays, stream=device("cuda:0").stream(), **options)
    assert all(isinstance(tensor, _core.DeviceTensor) for tensor in drawn.values())
    return {name: back(tensor) for name, tensor in drawn.items()}


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
    for put in (there, np.asarray):  # faces and instances
        drawn = draw(cuda, there(clip), put(faces), instances=put(instances), **options)
        assert set(drawn) == set(wanted)
        for name in ALL:
            np.testing.assert_array_equal(drawn[name], wanted[name], err_msg=name)


def large_faces(scale: float) -> tuple[Any, Any, dict[str, Any]]:
    flat, faces = tessellated(np.random.default_rng(1), 6)
    vertices = np.concatenate([flat * scale, 1 + 0.4 * scale * flat[:, 1:]], axis=1)
    return vertices, faces, {"intrinsics": (600.0, 600.0, 360.5, 240.5), "size": (480, 720), "outputs": ALL}


@pytest.mark.parametrize("scale", [0.2, 500.0])
def test_large_faces(cuda: Any, scale: float) -> None:
    vertices, faces, options = large_faces(scale)
    wanted = _core.rasterize(vertices, faces, **options)
    for name, array in draw(cuda, there(vertices), there(faces), **options).items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_tensors_and_a_stream_of_torch(cuda: Any) -> None:
    needs_torch("cuda:0")
    vertices, faces, options = large_faces(0.2)
    wanted = _core.rasterize(vertices, faces, **options)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        given = torch.from_numpy(vertices).cuda(), torch.from_numpy(faces).cuda()
        for name, array in cuda.rasterize(*given, stream=stream.cuda_stream, **options).items():
            np.testing.assert_array_equal(torch.from_dlpack(array).cpu().numpy(), wanted[name], err_msg=name)


def test_wrong_faces_and_vertices_on_the_device_are_not_drawn(cuda: Any) -> None:
    vertices = np.array([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1], [np.nan, 0, 1]])
    faces = np.array([[0, 1, 9], [-1, 1, 2], [0, 1, 3], [0, 1, 2]])
    drawn = draw(cuda, there(vertices), there(faces), intrinsics=CAMERA, size=SIZE, outputs=("faces",))
    assert set(np.unique(drawn["faces"])) == {-1, 3}


def test_wrong_input_is_refused(cuda: Any) -> None:
    vertices, faces = np.ones((3, 3), np.float32), np.array([[0, 1, 2]])
    for arguments, words in [
        ((vertices, faces), "CUDA device"),
        ((there(vertices.astype(np.float16)), faces), "float32"),
        ((there(vertices), faces + 1), "names the vertex 3"),
        ((there(vertices), faces[0]), "faces must have shape"),
        ((there(vertices), there(faces[0])), "faces must have shape"),
        ((there(vertices), there(faces.astype(np.uint8))), "int32 or int64"),
        ((there(vertices[:, :2]), faces), "vertices"),
    ]:
        with pytest.raises(InputError, match=words):
            cuda.rasterize(*arguments, intrinsics=CAMERA, size=SIZE)
    with pytest.raises(InputError, match="int32 of shape"):
        cuda.rasterize(there(vertices), faces, instances=there(faces[0]), intrinsics=CAMERA, size=SIZE)


def test_arrays_of_torch_must_be_contiguous(cuda: Any) -> None:
    needs_torch("cuda:0")
    with pytest.raises(InputError, match="contiguous"):
        cuda.rasterize(torch.ones(3, 4).cuda()[:, :3], [[0, 1, 2]], intrinsics=CAMERA, size=SIZE)
