"""hoirt's kernels against the measured speed of a copy: how much of it they reach at 64 MB of state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bench.gpu.session import Session

STATE_BYTES = 64 << 20


def run(session: Session) -> None:
    if not session.on_gpu:
        session.add("kernels", "all", note="not measured: they are kernels of a GPU")
        return
    from hoirt import _core_cuda

    count = (1 << 14) if session.tiny else STATE_BYTES // 4

    def stream() -> int:
        return torch.cuda.current_stream().cuda_stream

    def floats(size: int = count) -> Any:
        return torch.rand(size, device=session.device)

    for known, dtype in ((False, torch.float32), (True, torch.float32), (False, torch.bfloat16)):
        name = f"guided step{', known region' if known else ''}{', bfloat16' * (dtype is torch.bfloat16)}"
        with session.attempt("kernels", name):
            step, arrays = guided_step(_core_cuda, floats, 4 * count // dtype.itemsize, known, dtype)
            _add(session, name, lambda step=step: step.launch(stream=stream()), _bytes(*arrays))
    with session.attempt("kernels", "philox normals"):
        out = floats()
        _add(
            session,
            "philox normals",
            lambda: _core_cuda.philox_normal(
                out.data_ptr(), size=count, seed=1, stream_number=0, stream=stream()
            ),
            _bytes(out),
        )
    side = 64 if session.tiny else 2048
    for left in (0, 1):  # beginning at a multiple of 16 bytes, and not
        name = f"paste {side} x {side}{', one pixel aside' if left else ''}"
        with session.attempt("kernels", name):
            picture = torch.zeros(side, side + left, 3, dtype=torch.uint8, device=session.device)
            patch, alpha = floats(side * side * 3), floats(side * side)
            _add(
                session,
                name,
                lambda left=left, picture=picture, patch=patch, alpha=alpha: _core_cuda.paste(
                    picture.data_ptr(), patch.data_ptr(), alpha.data_ptr(), size=(side, side + left),
                    patch_size=(side, side), top=0, left=left, stream=stream(),
                ),
                _bytes(picture, picture, patch, alpha),
            )  # fmt: skip
    with session.attempt("kernels", "pictures"):
        for kernel in picture_kernels(_core_cuda, session.device, side):
            _add(
                session,
                f"{kernel.name} {side} x {side}",
                lambda kernel=kernel: kernel.launch(stream()),
                kernel.least,
                kernel.between,
            )


@dataclass(frozen=True)
class PictureKernel:
    """launch: on a stream. least: bytes that it has to read and write. between: what it moves beside them."""

    name: str
    launch: Callable[[int], None]
    out: Any
    least: int
    between: int = 0


def picture_kernels(module: Any, place: str, side: int) -> list[PictureKernel]:
    """What `module`, hoirt._core_cuda, does to pictures on the device `place`."""
    from hoirt.backends.devices import open_device

    device, area, half = open_device(place), side * side, side // 2
    rng = np.random.default_rng(0)
    pixels = device.upload(rng.integers(0, 256, (side, side, 3), np.uint8))
    colours = device.upload(rng.random((side, side, 3), np.float32) * 255)
    inside = np.zeros((side, side), np.uint8)
    inside[side // 4 : half, side // 4 : half] = 1
    hole = device.upload(inside)
    planes, halved = device.empty((1, 3, side, side)), device.empty((half, half, 3))
    back, matched = device.empty((side, side, 3)), device.empty((side, side, 3))
    halve = module.Resize(size=(side, side), out_size=(half, half), channels=3, dtype="float32")
    for_resize = device.empty((halve.workspace_bytes,), "uint8")
    for_match = device.empty((module.match_colours_workspace((side, side)),), "uint8")
    device.synchronize()  # the launches come on another stream

    def normalise(stream: int) -> None:
        module.normalise(pixels.address, planes.address, shape=(1, side, side, 3), stream=stream)

    def to_colours(stream: int) -> None:
        module.colours(planes.address, back.address, shape=(1, side, side), stream=stream)

    def resize(stream: int) -> None:
        halve.launch(colours.address, halved.address, workspace=for_resize.address, stream=stream)

    def match(stream: int) -> None:
        module.match_colours(
            colours.address, pixels.address, hole.address, matched.address,
            size=(side, side), workspace=for_match.address, stream=stream,
        )  # fmt: skip

    # A resize writes and reads the picture of half the width between its passes. The colour match reads the
    # colours again when all shifts are known.
    return [
        PictureKernel("normalise", normalise, planes, 3 * area * (1 + 4)),
        PictureKernel("colours", to_colours, back, 3 * area * (4 + 4)),
        PictureKernel("resize to half, float32", resize, halved, 3 * area * (4 + 1), 3 * area * (2 + 2)),
        PictureKernel("match colours", match, matched, area * (12 + 3 + 1 + 12), area * 12),
    ]


def guided_step(
    module: Any, floats: Callable[[int], Any], count: int, known: bool, dtype: torch.dtype
) -> tuple[Any, list[Any]]:
    """The step, and each array that it reads or writes, once for each."""
    step = module.GuidedStep(items=1, item_size=count, dtype=str(dtype).removeprefix("torch."))
    x, c, u, after = (floats(count).to(dtype) for _ in range(4))
    step.state, step.conditional, step.unconditional, step.next = (t.data_ptr() for t in (x, c, u, after))
    step.A, step.B, step.C, step.D, step.guidance = 1.01, -0.1, 0.9, 0.1, 7.5
    arrays = [x, c, u, after]
    if known:
        z, mask, noise = floats(count).to(dtype), floats(count).to(dtype), floats(count)
        seeds = torch.zeros(1, dtype=torch.int64, device=x.device)
        step.known, step.mask, step.known_noise, step.seeds = (t.data_ptr() for t in (z, mask, noise, seeds))
        step.G, step.H, step.row = 0.8, 0.6, 0
        arrays += [z, mask, noise, seeds]
    return step, arrays


def _bytes(*arrays: Any) -> int:
    return sum(int(array.nbytes) for array in arrays)


def _add(session: Session, name: str, launch: Callable[[], Any], least: int, between: int = 0) -> None:
    """Shares of the copy speed, by the bytes that must be moved, and by those with what lies between."""
    milliseconds = session.measure_replayed(launch)
    seconds = 1 / session.facts["copy_bytes_per_second"]
    ratios = {"share of the copy speed": 1000 * seconds * least / milliseconds}
    if between:
        ratios["share with what lies between"] = 1000 * seconds * (least + between) / milliseconds
    session.add("kernels", name, milliseconds, ratios=ratios)
