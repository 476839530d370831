"""choose(): the device and the backend of a pack, with the reasons for what was not taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hoirt.backends import registry
from hoirt.backends.interface import Backend, kind_of
from hoirt.errors import BackendError, HoirtError, InputError

if TYPE_CHECKING:
    from hoirt.packs import Pack

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "fp8", "int8")


@dataclass(frozen=True)
class Choice:
    """What runs a pack.

    Attributes:
        backend: the backend. device: "cpu", or "cuda:" and an index. precision: of the networks' arithmetic.
        reasons: why each backend that stands before it in the order of its device was not taken; with device
            "auto", "cuda" says why no CUDA device was.
    """

    backend: Backend
    device: str
    precision: str
    reasons: dict[str, str] = field(default_factory=dict)


def choose(
    device: str = "auto", backend: str = "auto", *, pack: Pack | None = None, precision: str = "auto"
) -> Choice:
    """The device and the backend that run `pack`, or any pack.

    Args:
        device: "cpu", "cuda" (the first one), "cuda:1", or "auto": CUDA if a device works and a backend can
            run the pack there, else the CPU.
        backend: a name, which is taken or refused and never replaced; or "auto", the first that works of
            tensorrt, aoti, onnxruntime on CUDA and of openvino, onnxruntime on the CPU.
        precision: "auto", or one that the backend must be able to run.

    Raises:
        InputError: an argument cannot be right.
        BackendError: nothing can run it; the message says why for each.
    """
    wanted = parse_device(device)
    if backend != "auto" and backend not in registry.names():
        raise InputError(
            f"there is no backend {backend!r}; choose 'auto' or one of {', '.join(registry.names())}"
        )
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    check_stored(precision, pack)
    if wanted != "auto":
        return _on(wanted, backend, pack, precision)
    try:
        return _on("cuda:0", backend, pack, precision)
    except BackendError as error:
        without = str(error)
    try:
        found = _on("cpu", backend, pack, precision)
    except BackendError as error:
        raise BackendError(f"{error}\n{without}") from None
    return Choice(found.backend, found.device, found.precision, {"cuda": without, **found.reasons})


def parse_device(device: str) -> str:
    """ "auto", "cpu" or "cuda:N" of what a caller wrote; "cuda" is "cuda:0". Raises InputError."""
    if device in ("auto", "cpu"):
        return device
    match = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", device) if isinstance(device, str) else None
    if match is None:
        raise InputError(f'device must be "auto", "cpu", "cuda" or "cuda:" and an index, not {device!r}')
    return f"cuda:{int(match[1] or 0)}"


def cuda_obstacle(index: int = 0) -> str:
    """Why the CUDA device `index` cannot be used by hoirt, or "" if it can."""
    from hoirt.backends.devices import open_device

    try:
        open_device(f"cuda:{index}")
    except (ImportError, HoirtError) as error:
        return f"no device cuda:{index}: {error}"
    return ""


def arithmetic_of(precision: str, possible: Sequence[str]) -> str:
    """What a backend is asked for: an int8 step is int8 in its graph, so of "int8" it is what else there is.

    possible: the precisions of the backend, the fastest first.
    """
    return next(name for name in possible if name in ("fp32", "bf16")) if precision == "int8" else precision


def precision_of(asked: str, stored: str, possible: Sequence[str]) -> str:
    """The precision of a pack that bears `stored`, on a runtime with the `possible`, the fastest first."""
    if asked != "auto":
        return asked
    return "int8" if stored == "int8" else next(name for name in possible if name in ("fp32", stored))


def check_stored(precision: str, pack: Pack | None) -> None:
    """Raises InputError for int8 of a pack that is not quantised."""
    if precision == "int8" and pack is not None and pack.settings.precision != "int8":
        raise InputError(
            "the step of this pack is not quantised to int8; build the pack with --precision int8, "
            "or make an int8 pack of it with: hoirt pack quantize PACK -o OUT"
        )


def _on(device: str, name: str, pack: Pack | None, precision: str) -> Choice:
    """The choice on one device; BackendError lists every reason."""
    kind = kind_of(device)
    if kind == "cuda":
        obstacle = cuda_obstacle(int(device.partition(":")[2]))
        if obstacle:
            raise BackendError(obstacle)
    reasons: dict[str, str] = {}
    for candidate in registry.automatic(kind) if name == "auto" else (name,):
        try:
            runtime = registry.load(candidate)
            found = _precision_on(runtime, device, pack, precision)
            reason = "" if pack is None else runtime.obstacle(pack, device=device, precision=found)
        except BackendError as error:
            reason = str(error)
        if not reason:
            return Choice(runtime, device, found, reasons)
        reasons[candidate] = reason
    raise BackendError("\n".join(reasons.values()) or f"no backend runs on {device}")


def _precision_on(runtime: Backend, device: str, pack: Pack | None, precision: str) -> str:
    if kind_of(device) not in runtime.devices:
        raise BackendError(f"backend {runtime.name} cannot run on {device} in this installation")
    possible = runtime.precisions(device)
    found = precision_of(precision, "fp32" if pack is None else pack.settings.precision, possible)
    if found != "int8" and found not in possible:
        raise BackendError(
            f"backend {runtime.name} cannot run {found} on {device}; it can run {', '.join(possible)}"
        )
    return found
