"""Torch modules as hoirt runs them: packages of AOTInductor behind hoirt's own runner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.aoti.inputs import cast
from export.aoti.kernels import choose_kernels
from export.aoti.settings import configuration


@dataclass(frozen=True)
class Part:
    """A module, and the names of what it takes and gives, in order.

    The parts of a network take the network's inputs, and what the parts before them give.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last: bool = True  # gives the network's outputs, in float32


class _Ports(nn.Module):
    """A part with its inputs in the precision of its weights, as a pack's networks take them."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.inner, self.last = part.module, part.last

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        kind = next(self.inner.parameters()).dtype
        out = self.inner(*(cast(value, kind) for value in inputs))
        outputs = [out] if isinstance(out, Tensor) else list(out)
        return [value.float() for value in outputs] if self.last else outputs


def network(
    parts: Sequence[Part],
    inputs: Mapping[str, Tensor],
    output: str,
    stem: Path,
    *,
    twins: Sequence[str] = (),
    autotune: bool = False,
    trials: bool = True,
) -> Any:
    """The network of hoirt made of `parts`: one, or three as of `hoirt pack compile --streams 2`.

    Compiled for exactly these inputs, of which `twins` have half of the items, unless the packages
    `stem`-N.pt2 are there. On the CPU, where it is only tried out, the modules are exported and run as they
    are.
    """
    values = dict(inputs)
    device = str(next(iter(inputs.values())).device)
    run: list[Callable[..., Any]] = []
    for i, part in enumerate(parts):
        given = tuple(values[name] for name in part.inputs)
        with torch.no_grad():
            if device == "cpu":
                run.append(torch.export.export(_Ports(part).eval(), given, strict=False).module())
            elif not _file(stem, i).is_file():
                compile_part(part, given, _file(stem, i), autotune=autotune, trials=trials)
            if not part.last:
                values |= dict(zip(part.outputs, _Ports(part).eval()(*given), strict=True))
    if device == "cpu":
        return _exported(parts, run, inputs, output, twins)
    return packaged(parts, inputs, output, stem, device, twins)


def _file(stem: Path, i: int) -> Path:
    return stem.with_name(f"{stem.name}-{i}.pt2")


def compile_part(
    part: Part, inputs: tuple[Tensor, ...], path: Path, *, autotune: bool, trials: bool = True
) -> None:
    """Writes the package `path`, which takes exactly such inputs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}")
    # As `hoirt pack compile` sets them, but for the search beyond max-autotune's, which takes much longer.
    device = str(inputs[0].device)
    halves = next(part.module.parameters()).dtype != torch.float32
    settings = configuration(device, autotune, halves=halves) | {"coordinate_descent_tuning": False}
    program = torch.export.export(_Ports(part).eval(), inputs, strict=False)
    if halves and trials:
        for choice in choose_kernels(program, device):
            print(f"{path.name}: {choice}", flush=True)
    torch._inductor.aoti_compile_and_package(program, package_path=str(made), inductor_configs=settings)
    made.chmod(0o600)
    made.replace(path)


def packaged(
    parts: Sequence[Part],
    inputs: Mapping[str, Tensor],
    output: str,
    stem: Path,
    device: str,
    twins: Sequence[str] = (),
) -> Any:
    """The network that runs the packages `stem`-N.pt2."""
    from hoirt.backends.aoti import store
    from hoirt.backends.aoti.runtime import open_packages

    ports = tuple(store.Value(name, tuple(value.shape), "float32") for name, value in inputs.items())
    made = tuple(store.part_of(_file(stem, i), part.inputs, part.outputs) for i, part in enumerate(parts))
    out = (store.Value(output, (-1,) * inputs["sample"].ndim, "float32"),)
    streams = 2 if len(parts) > 1 else 1
    package = store.Package(stem.name, ports, out, made, streams=streams, twins=tuple(twins))
    return open_packages(stem.parent, [package], device, name=stem.name)


def _exported(
    parts: Sequence[Part],
    run: Sequence[Callable[..., Any]],
    inputs: Mapping[str, Tensor],
    output: str,
    twins: Sequence[str],
) -> Any:
    from hoirt import _core

    def whole(*given: Tensor) -> Tensor:
        values = dict(zip(inputs, given, strict=True))
        for part, call in zip(parts, run, strict=True):
            values |= zip(part.outputs, call(*(values[name] for name in part.inputs)), strict=True)
        return values[output]

    ports = [_core.Port(name, [-1, *value.shape[1:]]) for name, value in inputs.items()]
    out = [_core.Port(output, [-1, *inputs["sample"].shape[1:]])]
    fn = enqueue(whole, list(inputs), output, "cpu")
    return _core.DeviceNetwork(ports, out, fn, device="cpu", twins=twins)


def enqueue(call: Callable[..., Tensor], names: Sequence[str], output: str, device: str) -> Any:
    """The function of a DeviceNetwork on `device` that calls `call` with the inputs in the order of `names`.

    Memory comes from a pool of the caller's stream: what a captured graph uses is not given to other streams.
    """
    pools: dict[int, Any] = {}

    def on(stream: int) -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        stack.enter_context(torch.inference_mode())
        if device != "cpu":
            pool = pools.setdefault(stream, torch.cuda.MemPool())
            stack.enter_context(torch.cuda.stream(torch.cuda.ExternalStream(stream, device=device)))
            stack.enter_context(torch.cuda.use_mem_pool(pool, torch.device(device)))
        return stack

    def fn(inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int) -> dict[str, Any] | None:
        with on(stream):  # also for taking the arrays: no other stream may have a part in a capture
            result = call(*(torch.from_dlpack(inputs[name]) for name in names))
            if outputs.get(output) is None:
                return {output: result.contiguous()}
            torch.from_dlpack(outputs[output]).copy_(result)
        return None

    return fn
