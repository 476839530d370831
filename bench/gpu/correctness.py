"""Whether the device gives what the CPU gives: a check of our own, and the device tests where pytest is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np

from bench.gpu.native import ROOT
from bench.gpu.session import Session

TESTS = ("test_device.py", "test_encode_cuda.py", "test_raster_cuda.py")
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SHAPE = (2, 4, 16, 24)


def run(session: Session) -> None:
    with session.attempt("correctness", "loop"):
        worst, graphs, reason = loop_difference(session.device)
        note = f"largest difference from the CPU {worst:.2e}, {graphs} steps from graphs {reason}".rstrip()
        session.add("correctness", "loop", note=note if worst <= 1e-5 else f"WRONG: {note}")
    with session.attempt("correctness", "device tests"):
        if session.tiny:
            return
        if importlib.util.find_spec("pytest") is None:
            session.add("correctness", "device tests", note="not run: pytest is not installed")
            return
        files = [str(ROOT / "tests" / name) for name in TESTS if (ROOT / "tests" / name).is_file()]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "--no-header",
            "-p",
            "no:cacheprovider",
            *files,
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=max(1, session.left())
        )
        last = [line for line in done.stdout.splitlines() if line.strip()][-1:]
        session.add("correctness", "device tests", note=f"exit {done.returncode}: {''.join(last)[:200]}")


def loop_difference(device: str) -> tuple[float, int, str]:
    """Largest difference of two runs of the loop, on the CPU and on `device`, with the same small network."""
    from hoirt import _core, schedules
    from hoirt.backends.devices import open_device

    table = schedules.build(SCHEDULER, 8, guidance=3.0, known_region=True)
    rng = np.random.default_rng(0)
    known = rng.standard_normal(SHAPE, np.float32)
    mask = (rng.random((SHAPE[0], 1, *SHAPE[2:])) > 0.5).astype(np.float32)
    text = rng.standard_normal((1, 4), np.float32)
    results = []
    for place in ("cpu", device):
        network = _core.DeviceNetwork(*_ports(), _function(place), device=place)
        where = open_device(place)
        loop = _core.DenoiseLoop(network, timestep=None, control=None, device=where)
        for _ in range(2):  # the second one from graphs
            result = loop.run(
                table, shape=SHAPE, seeds=[1, 2], condition={"text": text}, uncondition={"text": 0 * text},
                known=known, mask=mask,
            )  # fmt: skip
        latents = result.latents
        results.append(np.asarray(latents if isinstance(latents, np.ndarray) else latents.numpy()))
    return float(np.abs(results[0] - results[1]).max()), int(result.graphs), str(result.graph_reason)


def _ports() -> tuple[list[Any], list[Any]]:
    from hoirt import _core

    inputs = [_core.Port("sample", [-1, 4, -1, -1]), _core.Port("text", [-1, 4])]
    return inputs, [_core.Port("prediction", [-1, 4, -1, -1])]


def _function(device: str) -> Any:
    """prediction = 0.9 sample + text, by torch on the caller's stream."""
    from bench.gpu.packages import enqueue

    def predict(sample: Any, text: Any) -> Any:
        return 0.9 * sample + text[:, :, None, None]

    return enqueue(predict, ["sample", "text"], "prediction", device)
