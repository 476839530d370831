"""What every training stage shares: device, checkpoints, learning-rate plan, moving average and a log."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> AbstractContextManager[None]:
    return torch.autocast(device.type, dtype=torch.bfloat16)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of indices, every sample once before any comes again."""
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


@dataclass
class Trainer:
    """One stage: AdamW with warm-up and cosine decay, an exponential moving average, checkpoints and a log.

    The run ends after `steps` steps or `minutes` minutes of training, whichever comes first; the learning
    rate follows the larger of the two shares, so that it always reaches its end.
    """

    name: str
    work: Path
    modules: dict[str, nn.Module]
    rate: float
    steps: int
    minutes: float
    seed: int = 0
    average_decay: float = 0.999
    warm_up: int = 100
    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = pick_device()
        for module in self.modules.values():
            module.to(self.device)
        self.averages = {key: copy.deepcopy(module).eval() for key, module in self.modules.items()}
        parameters = [p for module in self.modules.values() for p in module.parameters() if p.requires_grad]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=1e-4, betas=(0.9, 0.99))
        self.path = self.work / f"{self.name}.pt"
        self._resume()

    def _resume(self) -> None:
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        for key, module in self.modules.items():
            module.load_state_dict(state["modules"][key])
            self.averages[key].load_state_dict(state["averages"][key])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses = [tuple(row) for row in state["losses"]]
        print(f"{self.name}: resumed at step {self.step} after {self.seconds / 60:.1f} min", flush=True)

    def save(self) -> None:
        state = {
            "modules": {key: module.state_dict() for key, module in self.modules.items()},
            "averages": {key: module.state_dict() for key, module in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
        }
        temporary = self.path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.path)

    @property
    def share(self) -> float:
        """How much of the stage is done, 0..1."""
        return min(1.0, max(self.step / self.steps, self.seconds / 60.0 / self.minutes))

    def _rate_now(self) -> float:
        return (
            self.rate
            * min(1.0, (self.step + 1) / self.warm_up)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.share)))
        )

    def run(self, loss_of: LossFunction, *, save_every: float = 120.0) -> None:
        """Trains to the end of the plan; `loss_of(trainer)` gives the loss of a fresh batch."""
        started, saved, shown = time.monotonic(), time.monotonic(), time.monotonic()
        before, recent = self.seconds, []
        for module in self.modules.values():
            module.train()
        while self.share < 1.0:
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate_now()
            loss = loss_of(self)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self._average()
            self.step += 1
            self.seconds = before + time.monotonic() - started
            recent.append(float(loss.detach()))
            now = time.monotonic()
            if now - shown > 20.0:
                mean = sum(recent) / len(recent)
                self.losses.append((self.step, self.seconds, mean))
                spent = f"step {self.step} {self.seconds / 60:.1f} min"
                print(f"{self.name} {self.share:6.1%} {spent} loss {mean:.4f}", flush=True)
                recent, shown = [], now
            if now - saved > save_every:
                self.save()
                saved = now
        self.save()
        self._report()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.average_decay, (1 + self.step) / (10 + self.step))
        for key, module in self.modules.items():
            for mean, now in zip(
                self.averages[key].state_dict().values(), module.state_dict().values(), strict=True
            ):
                if mean.dtype.is_floating_point:
                    mean.lerp_(now, 1 - decay)
                else:
                    mean.copy_(now)

    def _report(self) -> None:
        report = {
            "stage": self.name,
            "seed": self.seed,
            "steps": self.step,
            "minutes": round(self.seconds / 60, 2),
            "device": torch.cuda.get_device_name()
            if self.device.type == "cuda"
            else f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in self.parameters),
            "losses": [[step, round(seconds, 1), round(loss, 5)] for step, seconds, loss in self.losses],
        }
        (self.work / f"{self.name}.json").write_text(json.dumps(report))


class LossFunction(Protocol):
    """Anything that can be called with the trainer and gives a scalar loss."""

    def __call__(self, trainer: Trainer) -> Tensor: ...


def load_average(work: Path, name: str, modules: dict[str, nn.Module]) -> None:
    """Puts the averaged weights of a finished stage into modules, in evaluation mode."""
    state = torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True)
    for key, module in modules.items():
        module.load_state_dict(state["averages"][key])
        module.eval()
