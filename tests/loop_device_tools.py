"""A network in Python that runs on any device, and a run of the loop that needs every kind of argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from device_tools import device, is_recording, on_stream
from hoirt import _core
from loop_tools import table
from numpy.typing import NDArray

SHAPE = (2, 4, 8, 8)
NAMES = ("sample", "timestep", "control_scale", "context", "style")


def predict(*tensors: torch.Tensor) -> None:
    out = tensors[-1]
    given = (x if len(x) == len(out) else torch.cat([x, x]) for x in tensors[:-1])  # twins may be halves
    sample, timestep, control_scale, context, style = given
    shift = timestep / 1024 + control_scale * context + style
    torch.mul(sample, 0.5, out=out)
    out.add_(shift[:, None, None, None])


class Network:
    """prediction = sample / 2 + timestep / 1024 + control context + style; counts its calls."""

    def __init__(self, place: str, **options: Any) -> None:
        self.place, self.calls, self.fail_in_capture = place, 0, False
        self.items: set[tuple[int, ...]] = set()  # of the inputs, in every call
        ports = [_core.Port("sample", [-1, -1, -1, -1]), *(_core.Port(name, [-1]) for name in NAMES[1:])]
        self.native = _core.DeviceNetwork(
            ports, [_core.Port("prediction", [-1, -1, -1, -1])], self.run, device=place, **options
        )

    def run(self, inputs: dict[str, Any], outputs: dict[str, Any], stream: int) -> None:
        self.calls += 1
        if self.fail_in_capture and is_recording(self.place, stream):
            raise RuntimeError("not in a capture")
        given = [inputs[name] for name in NAMES]
        self.items.add(tuple(array.shape[0] for array in given))
        on_stream(self.place, stream, predict, *given, outputs["prediction"])

    def loop(self) -> _core.DenoiseLoop:
        return _core.DenoiseLoop(self.native, device=device(self.place))


def arguments(steps: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    state = rng.standard_normal(SHAPE).astype(np.float32)
    return {
        "table": table(
            steps,
            timestep=np.linspace(900, 0, steps),
            guidance=np.where(np.arange(steps) % 3 == 1, 1, 2.5),
            A=1.0,
            B=-0.25,
            C=0.5,
            D=0.25,
            F=np.where(np.arange(steps) % 2, 0.125, 0),
            G=0.5,
            H=0.5,
            known=np.arange(steps) < steps - 1,
            init_signal=0.5,
        ),
        "shape": SHAPE,
        "seeds": [1, 2],
        "condition": {"context": np.array([0.25, 0.5], np.float32)},
        "uncondition": {"context": np.zeros(1, np.float32)},
        "per_step": {"style": np.linspace(0, 1, steps).astype(np.float32)},
        "control": [0.5, 1.0],
        "initial": state,
        "known": 2 * state,
        "mask": (rng.random((2, 1, 8, 8)) < 0.5).astype(np.float32),
    }


def values(latents: Any) -> NDArray[np.float32]:
    return np.asarray(latents if isinstance(latents, np.ndarray) else latents.numpy())
