"""hoirt's kernels against the measured speed of a copy: how much of it they reach at 64 MB of state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.gpu.session import Session

STATE_BYTES = 64 << 20
MASK, NOISE = 1, 2


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

    for known in (False, True):
        name = f"guided step{', known region' if known else ''}"
        with session.attempt("kernels", name):
            step, arrays = guided_step(_core_cuda, floats, count, known, session.device)
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


def guided_step(
    module: Any, floats: Callable[[], Any], count: int, known: bool, device: str
) -> tuple[Any, list[Any]]:
    """The step, and each array that it reads or writes, once for each."""
    step = module.GuidedStep(items=1, item_size=count)
    x, c, u, after = (floats() for _ in range(4))
    step.state, step.conditional, step.unconditional, step.next = (t.data_ptr() for t in (x, c, u, after))
    step.A, step.B, step.C, step.D, step.guidance = 1.01, -0.1, 0.9, 0.1, 7.5
    arrays = [x, c, u, after]
    if known:
        z, mask, noise = (floats() for _ in range(3))
        seeds = torch.zeros(1, dtype=torch.int64, device=device)
        step.known, step.mask, step.known_noise, step.seeds = (t.data_ptr() for t in (z, mask, noise, seeds))
        step.G, step.H, step.row = 0.8, 0.6, 0
        arrays += [z, mask, noise, seeds]
    return step, arrays


def _add(session: Session, name: str, launch: Callable[[], Any], arrays: list[Any]) -> None:
    milliseconds = session.measure_replayed(launch)
    moved = sum(array.nbytes for array in arrays)
    limit = 1000 * moved / session.facts["copy_bytes_per_second"]
    session.add("kernels", name, milliseconds, ratios={"share of the copy speed": limit / milliseconds})
