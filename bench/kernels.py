"""The guided step alone, guidance, update and known-region blend, beside the same in NumPy and torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hoirt import _core, schedules
from numpy.typing import NDArray

SHAPE = (8, 4, 128, 128)  # eight pictures of 1024 x 1024 at a VAE factor of 8
GUIDANCE = 2.0
STEPS = 20
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
Floats = NDArray[np.float32]


class KernelCase:
    """State, prediction and known region, all random; `known`: whether the known region is blended in."""

    def __init__(self, known: bool) -> None:
        rng = np.random.default_rng(0)
        self.known = known
        self.table = schedules.build(SCHEDULER, STEPS, guidance=GUIDANCE, known_region=known)
        self.row = STEPS // 2
        self.state, self.known_state = (rng.standard_normal(SHAPE, np.float32) for _ in range(2))
        self.prediction = rng.standard_normal((2 * SHAPE[0], *SHAPE[1:]), np.float32)
        self.mask = (rng.random((SHAPE[0], 1, *SHAPE[2:])) > 0.5).astype(np.float32)
        batch = [-1, *SHAPE[1:]]
        inputs = [_core.Port("sample", batch, "float32"), _core.Port("timestep", [-1], "float32")]
        outputs = [_core.Port("prediction", batch, "float32")]
        network = _core.PythonNetwork(inputs, outputs, lambda _: {"prediction": self.prediction})
        self.loop = _core.DenoiseLoop(network, control=None)

    def hoirt(self) -> NDArray[np.float64]:
        """Seconds (STEPS - 1,) outside the network of each step but the last, which blends nothing."""
        result = self.loop.run(
            self.table,
            shape=SHAPE,
            seeds=np.arange(SHAPE[0], dtype=np.uint64),
            condition={},
            known=self.known_state if self.known else None,
            mask=self.mask if self.known else None,
        )
        return np.asarray(result.step_seconds - result.network_seconds)[:-1]

    def _constants(self) -> tuple[float, ...]:
        return tuple(float(getattr(self.table, name)[self.row]) for name in "ABCDGH")

    def numpy(self) -> Callable[[], Floats]:
        """One step in NumPy."""
        a, b, c, d, g, h = map(np.float32, self._constants())
        rng = np.random.default_rng(1)

        def step() -> Floats:
            uncondition, condition = self.prediction[: SHAPE[0]], self.prediction[SHAPE[0] :]
            out = uncondition + np.float32(GUIDANCE) * (condition - uncondition)
            after = c * self.state + d * (a * self.state + b * out)
            if self.known:
                noised = g * self.known_state + h * rng.standard_normal(SHAPE, np.float32)
                after = self.mask * after + (1 - self.mask) * noised
            return np.asarray(after)

        return step

    def torch(self) -> Callable[[], object]:
        """One step in torch eager."""
        import torch

        a, b, c, d, g, h = self._constants()
        state, known, mask = (torch.from_numpy(v) for v in (self.state, self.known_state, self.mask))
        prediction = torch.from_numpy(self.prediction)

        def step() -> object:
            with torch.inference_mode():
                uncondition, condition = prediction.chunk(2)
                out = uncondition + GUIDANCE * (condition - uncondition)
                after = c * state + d * (a * state + b * out)
                if self.known:
                    after = mask * after + (1 - mask) * (g * known + h * torch.randn(SHAPE))
                return after

        return step
