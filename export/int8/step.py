"""A step network to int8: measures its activations on calibration states and writes the quantised graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from hoirt import backends
from hoirt.errors import InputError, PackError

from ..weights_file import Progress, write_model
from .layers import Layer, find_layers
from .qdq import rewrite
from .ranges import Inputs, measure

# They read sums and concatenations of what lies far apart in range, and are 3 % of the work of a step.
SENSITIVE = ("/conv_shortcut/", "/controlnet_down_blocks", "/controlnet_mid_block/")


@dataclass(frozen=True)
class Quantised:
    """Names of the layers that run in int8, and of those that keep their precision."""

    layers: tuple[str, ...]
    kept: tuple[str, ...]


def quantize_step(
    source: Path,
    target: Path,
    states: Sequence[Inputs],
    *,
    keep: Sequence[str] = SENSITIVE,
    precision: str = "fp32",
    threads: int = 0,
    progress: Progress | None = None,
) -> Quantised:
    """Writes the quantised twin of the ONNX file `source` to `target`, its weights beside it (.bin).

    Convolutions and products with a constant matrix become int8, but for those with fewer than 16 channels on
    a side and those whose name holds a text of `keep`. All other weights keep their storage.

    Args:
        states: what the network was given in real runs, by port; see `export.calibration.record_states`.
        precision: "fp32" or "bf16", of the run that measures the activations. threads: of it; 0 is all.
        progress: called with the bytes of every weight that was written.

    Raises:
        InputError: no states, one that does not fit or is not finite, a graph without layers to quantise or
            one that is quantised already, or a target in place of the source.
        PackError: `source` is no sound ONNX file.
    """
    if target.resolve().with_suffix("") == source.resolve().with_suffix(""):
        raise InputError(f"{target} is the network that is quantised; choose another target")
    if not states:
        raise InputError("quantisation needs calibration states, got none")
    model = _load(source)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.all_nodes()):
        raise InputError(f"{source} is quantised already; quantise the pack that it was made from")
    for index, state in enumerate(states):
        _check_state(model, state, f"calibration state {index}")
    layers = find_layers(model)
    chosen = [layer for layer in layers if layer.wide and not any(text in layer.name for text in keep)]
    if not chosen:
        raise InputError(f"{source} has no layer to quantise")
    channels = {str(layer.activation.name): layer.channel for layer in chosen}
    ranges = measure(source, channels, states, precision=precision, threads=threads)
    rewrite(model, chosen, ranges)
    write_model(model, target, progress)
    onnx.checker.check_model(str(target), full_check=True)
    return Quantised(_names(chosen), _names([layer for layer in layers if layer not in chosen]))


def prediction_error(
    reference: Path, other: Path, states: Sequence[Inputs], *, precision: tuple[str, str], threads: int = 0
) -> list[float]:
    """For each state |other - reference| / |reference| of the predictions, Euclidean norms.

    precision: of the two networks as the backend runs them.
    """
    runtime = backends.load()
    predictions = []
    for path, name in zip((reference, other), precision, strict=True):
        network = runtime.open(str(path), precision=name, threads=threads)  # one at a time in memory
        predictions.append([network.run(state)["prediction"] for state in states])
        del network
    return [
        float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        for wanted, found in zip(*predictions, strict=True)
    ]


def _load(path: Path) -> ir.Model:
    try:
        return ir.load(path)
    except (DecodeError, OSError, ValueError) as error:
        raise PackError(f"{path}: not a sound ONNX file: {error}") from error


def _check_state(model: ir.Model, state: Inputs, what: str) -> None:
    """Raises InputError unless `state` has exactly the ports, in float32, of fitting shapes and finite."""
    ports = {str(value.name): value.shape for value in model.graph.inputs}
    if state.keys() != ports.keys():
        raise InputError(f"{what} has {sorted(state)}, the network takes {sorted(ports)}")
    for name, values in state.items():
        if not isinstance(values, np.ndarray) or values.dtype != np.float32:
            kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise InputError(f"{what}: {name} must be a float32 array, not {kind}")
        shape = ports[name]
        extents = () if shape is None else tuple(shape)
        fits = len(extents) == values.ndim and values.size > 0
        if not fits or any(
            isinstance(want, int) and want != have for want, have in zip(extents, values.shape, strict=True)
        ):
            raise InputError(f"{what}: {name} has the shape {values.shape}, the network takes {shape}")
        if not np.isfinite(values).all():
            raise InputError(f"{what}: {name} holds NaN or infinity")


def _names(layers: Sequence[Layer]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers)
