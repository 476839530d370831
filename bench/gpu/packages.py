"""Torch modules as hoirt runs them: compiled ahead of time by AOTInductor, behind a DeviceNetwork."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Float32Ports(nn.Module):
    """A module of another precision with float32 ports, as a pack's networks have them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor:
        kind = next(self.inner.parameters()).dtype
        out: Tensor = self.inner(*(value.to(kind) for value in inputs))
        return out.float()


def compiled(module: nn.Module, inputs: Sequence[Tensor], path: Path, *, autotune: bool) -> Any:
    """The module as a package, loaded: a function of a list of tensors. Made anew unless `path` is there.

    On the CPU, where it is only tried out, it is exported and run as it is.
    """
    if inputs[0].device.type == "cpu":
        with torch.no_grad():
            exported = torch.export.export(module.eval(), tuple(inputs), strict=False).module()
        return lambda values: [exported(*values)]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}")
        with torch.no_grad():
            program = torch.export.export(module.eval(), tuple(inputs), strict=False)
            settings: dict[str, Any] = {
                "max_autotune": autotune,
                "layout_optimization": True,
                "force_layout_optimization": True,
            }
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(made), inductor_configs=settings
            )
        made.replace(path)
    from hoirt.backends.aoti.runtime import share_cpp_library

    share_cpp_library()
    device = inputs[0].device
    index = device.index or 0
    return torch._inductor.aoti_load_package(
        str(path), run_single_threaded=True, device_index=index
    ).loader.run


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
