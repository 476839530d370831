"""hoirt's kernels against the measured speed of a copy: how much of it they reach at 64 MB of state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.gpu.session import Session

STATE_BYTES = 64 << 20
TOGETHER = 20  # calls that are timed as one


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
            _add(session, name, lambda step=step: step.launch(stream=stream()), arrays)
    with session.attempt("kernels", "philox normals"):
        out = floats()
        _add(
            session,
            "philox normals",
            lambda: _core_cuda.philox_normal(
                out.data_ptr(), size=count, seed=1, stream_number=0, stream=stream()
            ),
            [out],
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
                [picture, picture, patch, alpha],
            )  # fmt: skip
    with session.attempt("kernels", "pictures"):
        for name, call, moved in picture_kernels(session.device, side):
            milliseconds = session.measure(partial(_several, call)) / TOGETHER
            session.add(
                "kernels",
                f"{name} {side} x {side}",
                milliseconds,
                ratios=_share(session, moved, milliseconds),
            )


def picture_kernels(name: str, side: int) -> list[tuple[str, Callable[[], Any], int]]:
    """What is done to pictures on the device `name`, and the bytes that each reads and writes at least."""
    from hoirt import _core
    from hoirt.backends.devices import open_device

    device, area = open_device(name), side * side
    rng = np.random.default_rng(0)
    pixels = device.upload(rng.integers(0, 256, (1, side, side, 3), np.uint8))
    original = device.upload(rng.integers(0, 256, (side, side, 3), np.uint8))
    colours = device.upload(rng.random((side, side, 3), np.float32) * 255)
    planes = device.upload(rng.random((1, 3, side, side), np.float32))
    inside = np.zeros((side, side), np.uint8)
    inside[side // 4 : side // 2, side // 4 : side // 2] = 1
    hole = device.upload(inside)
    half = (side // 2, side // 2)
    return [
        ("normalise", lambda: _core.normalise(pixels), 3 * area * (1 + 4)),
        ("colours", lambda: _core.colours(planes), 3 * area * (4 + 4)),
        ("resize to half, float32", lambda: _core.resize(colours, half), 3 * area * (4 + 1)),
        ("match colours", lambda: _core.match_colours(colours, original, hole), area * (12 + 3 + 1 + 12)),
    ]


def _several(call: Callable[[], Any]) -> None:
    for _ in range(TOGETHER):
        call()


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


def _add(session: Session, name: str, launch: Callable[[], Any], arrays: list[Any]) -> None:
    milliseconds = session.measure_replayed(launch)
    moved = sum(array.nbytes for array in arrays)
    session.add("kernels", name, milliseconds, ratios=_share(session, moved, milliseconds))


def _share(session: Session, moved: int, milliseconds: float) -> dict[str, float]:
    limit = 1000 * moved / session.facts["copy_bytes_per_second"]
    return {"share of the copy speed": limit / milliseconds}
