"""Parts of the stand-in for tensorrt: errors, the calls of a progress monitor, the weights of a graph."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import onnx


class Errors:
    """Of a parser or a refitter."""

    num_errors = 0

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(
            node_operator=lambda: "Conv", node_name=lambda: "/conv", desc=lambda: "not understood"
        )


def report(monitor: Any, steps: int) -> bool:
    """From a thread of the library's own; the inner phase is one step of the outer."""
    answers: list[bool] = []

    def work() -> None:
        monitor.phase_start("Building", None, steps)
        for step in range(steps):
            monitor.phase_start("Tactics", "Building", 2)
            for inner in range(2):
                answers.append(monitor.step_complete("Tactics", inner))
                if not answers[-1]:
                    break
            monitor.phase_finish("Tactics")
            if not answers[-1]:
                break
            answers.append(monitor.step_complete("Building", step))
            if not answers[-1]:
                break
        monitor.phase_finish("Building")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return all(answers)


def weights_of(model: onnx.ModelProto) -> dict[str, Any]:
    """Refittable: everything that is a float."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: array for name, array in arrays.items() if array.dtype.kind not in "iub"}
