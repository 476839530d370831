"""What the device can do at best, measured: copying memory, multiplying matrices."""

from __future__ import annotations

from bench.gpu.session import Session

COPY_BYTES = 1 << 29  # far beyond every cache
SIDE = 8192


def measure_limits(session: Session) -> None:
    """Sets facts "copy_bytes_per_second" (read and written) and "flops" (bfloat16); says the GPU's name."""
    import torch

    small = session.tiny or not session.on_gpu
    count = (1 << 22) if small else COPY_BYTES
    source = torch.empty(count, dtype=torch.uint8, device=session.device)
    target = torch.empty_like(source)
    copy = session.measure_replayed(lambda: target.copy_(source))
    side = 128 if small else SIDE
    kind = torch.bfloat16 if session.on_gpu else torch.float32
    a, b = (torch.randn(side, side, device=session.device).to(kind) for _ in range(2))
    product = session.measure_replayed(lambda: a @ b)
    session.facts |= {
        "gpu": torch.cuda.get_device_name() if session.on_gpu else "none, run on the CPU",
        "copy_bytes_per_second": 2 * count / copy * 1000,
        "flops": 2 * side**3 / product * 1000,
    }
    gigabytes, tera = session.facts["copy_bytes_per_second"] / 1e9, session.facts["flops"] / 1e12
    session.add("limits", "copy", copy, note=f"{gigabytes:.0f} GB/s read and written, {count >> 20} MB")
    session.add("limits", "matrix product", product, note=f"{tera:.1f} TFLOP/s, {side} x {side}, {kind}")
