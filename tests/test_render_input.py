"""hoirt.render refuses what it cannot draw: wrong meshes, arguments, libraries, devices, sizes."""

from __future__ import annotations

from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt import Mesh, View
from test_render import CAMERA, SIZE, box

V, F = box()


@pytest.mark.parametrize(
    ("meshes", "message"),
    [
        ([], "no mesh"),
        (3, "mesh 0 is a int; use hoirt.Mesh"),
        ((V[:, :2], F), r"vertices of mesh 0 must be \(V, 3\) or \(N, V, 3\), not \(8, 2\)"),
        ((V[:0], F), "vertices of mesh 0 must be"),
        ((V.astype(np.int32), F), "must be float32 or float64, not int32"),
        ((V.astype(np.float16), F), "must be float32 or float64, not float16"),
        ((V.astype(complex), F), "must be float32 or float64, not complex128"),
        ((np.where(V > 0, np.nan, V).astype(np.float32), F), "NaN or infinity"),
        ((V, F[:, :2]), r"faces of mesh 0 must be \(F, 3\), not \(12, 2\)"),
        ((V, F[:0]), r"faces of mesh 0 must be \(F, 3\)"),
        ((V, F.astype(np.float32)), "faces of mesh 0 must be integers, not float32"),
        ((V, F + 1), "hold 8; it has 8 vertices, so 0..7 is right"),
        ((V, F.astype(np.int64) + 2**40), "hold 10995116277"),
        ((V, F - 1), "hold -1"),
        ((V, F.astype(bool)), "must be integers, not bool"),
        (([[1.0, 2.0], [3.0]], F), "mesh 0"),
        ([(V, F), "missing.obj"], "missing.obj does not exist"),
        (Mesh(V, F, poses=np.eye(3)), r"poses of mesh 0 must be \(4, 4\) or \(N, 4, 4\), not \(3, 3\)"),
        (Mesh(V, F, poses=np.full((4, 4), np.inf)), "NaN or infinity"),
        (Mesh(V, F, joints=np.zeros((16, 3))), r"joints of mesh 0 must be \(21, 3\)"),
        (Mesh(V, F, parts=np.zeros(3, int)), r"parts of mesh 0 must be \(12,\), not \(3,\)"),
        (Mesh(V, F, parts=np.full(12, -1)), "parts of mesh 0 hold -1"),
        (Mesh(V, F, instance=-1), "instance of mesh 0 must be an integer"),
        (Mesh(V, F, instance=True), "instance of mesh 0 must be an integer"),
        (Mesh(V, F, category=1.5, name="cup"), r"category of mesh 0 \(cup\) must be an integer"),  # type: ignore[arg-type]
        (Mesh(np.stack([V, V]), F, poses=np.stack([np.eye(4)] * 3)), r"have \[2, 3\] frames"),
        ([(np.stack([V, V]), F), (np.stack([V, V, V]), F)], "move over 2 and 3 frames"),
    ],
)
def test_bad_meshes_are_refused(meshes: Any, message: str) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        hoirt.render(meshes, CAMERA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modes": ("depth", "colour")}, "mode 'colour' is unknown; known are depth"),
        ({"modes": ()}, "no mode"),
        ({"size": None, "camera": (70, 70, 32, 24)}, "size of the picture is not known"),
        ({"size": (0, 5)}, "each side must be 1..8192"),
        ({"size": (8193, 5)}, "each side must be 1..8192"),
        ({"size": (4.5, 5)}, "whole pixels"),
        ({"size": 5}, "whole pixels"),
        ({"near": 0.0}, "near must be a positive"),
        ({"near": float("nan")}, "near must be a positive"),
        ({"near": "1"}, "near must be a positive"),
        ({"threads": -1}, "threads must be"),
        ({"threads": 1.5}, "threads must be"),
        ({"backend": "opengl"}, "backend 'opengl' is unknown; known are hoirt, nvdiffrast"),
        ({"backend": "nvdiffrast"}, "on the CPU"),
        (
            {"camera": View(np.tile([70.0, 70, 32, 24], (3, 1)), None, SIZE)},
            "over 2 frames but the camera over 3",
        ),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"camera": CAMERA, **change}
    camera = arguments.pop("camera")
    with pytest.raises(hoirt.InputError, match=message):
        hoirt.render((np.stack([V, V]), F), camera, **arguments)


def test_two_libraries_are_refused() -> None:
    torch = pytest.importorskip("torch")
    from hoirt import _core

    with pytest.raises(hoirt.InputError, match="are of hoirt and torch"):
        hoirt.render([(torch.from_numpy(V), F), (_core.Tensor(V), F)], CAMERA)


def test_what_does_not_fit_is_out_of_memory() -> None:
    moving = np.broadcast_to(V, (100_000, 8, 3))
    with pytest.raises(hoirt.OutOfMemory, match="do not fit"):
        hoirt.render((moving, F), (70, 70, 32, 24), (8192, 8192), modes="barycentrics")


class CudaArray:
    """What a CUDA tensor looks like to the dispatch, on a machine that has none."""

    shape, ndim, dtype = (8, 3), 2, "float32"

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("on a device")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_cuda_arrays_without_the_cuda_module_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from hoirt.render import clip

    monkeypatch.setitem(sys.modules, "hoirt._core_cuda", None)
    monkeypatch.delattr(hoirt, "_core_cuda", raising=False)  # another test may have imported it
    mesh = Mesh(CudaArray(), CudaArray(), instance=0)
    with pytest.raises(hoirt.BackendError, match="hoirt was built without CUDA"):
        clip._rasterizer([mesh], "hoirt")
    with pytest.raises(hoirt.InputError, match="some vertices are on the CPU"):
        clip._rasterizer([mesh, Mesh(V, F)], "hoirt")
