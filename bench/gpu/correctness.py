"""Whether the device gives what the CPU gives: a check of our own, and the device tests where pytest is."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.gpu.native import ROOT
from bench.gpu.session import Session

# Of torch's kernels, which compute-sanitizer need not look at.
COMPILED = ("test_aoti_halves.py", "test_aoti_trials.py")
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
SHAPE = (2, 4, 16, 24)
_TOLD = 6000  # characters of what failing tests say


def device_tests() -> list[str]:
    """The files of tests/ that run on a device with what the benchmark needs."""
    lines = (ROOT / "tests" / "device_tests.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def run(session: Session) -> None:
    with session.attempt("correctness", "loop"):
        worst, graphs, reason = loop_difference(session.device)
        note = f"largest difference from the CPU {worst:.2e}, {graphs} steps from graphs {reason}".rstrip()
        session.add("correctness", "loop", note=note if worst <= 1e-5 else f"WRONG: {note}")
    with session.attempt("correctness", "device tests"):
        if not session.tiny:
            names = [*device_tests(), *COMPILED]
            session.add("correctness", "device tests", note=_tested(session, [], names))


def sanitize(session: Session) -> None:
    """The device tests under compute-sanitizer, which looks at every access of every kernel."""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    for name in ("memcheck", "racecheck"):
        with session.attempt("sanitizer", name):
            if tool is None or not session.on_gpu:
                reason = "compute-sanitizer is not installed" if session.on_gpu else "there are no kernels"
                session.add("sanitizer", name, note=f"not run: {reason}")
                continue
            # An error that the tool finds, and not one that a test provokes of the runtime, ends in 99.
            given = [tool, "--tool", name, "--error-exitcode", "99", "--report-api-errors", "no"]
            session.add("sanitizer", name, note=_tested(session, given, device_tests()))


def _tested(session: Session, before: Sequence[str], names: Sequence[str]) -> str:
    """Runs test files behind a command; how they ended."""
    if importlib.util.find_spec("pytest") is None:
        return "not run: pytest is not installed"
    files = [str(ROOT / "tests" / name) for name in names if (ROOT / "tests" / name).is_file()]
    options = ["-q", "--maxfail=10", "--tb=short", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*before, sys.executable, "-m", "pytest", *options, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=max(1, session.left()),
    )
    if done.returncode:  # a machine with a GPU may be lent only once
        print(done.stdout[-_TOLD:], flush=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    told = [line for line in lines if "passed" in line or "failed" in line or "ERROR SUMMARY" in line]
    note = f"exit {done.returncode}: {'; '.join(told or lines[-1:])[:200]}"
    return note if done.returncode == 0 else f"WRONG: {note}"


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
