"""ONNX operators that normalise, convolve, resample and quantise; a part of operators.py's table."""

from __future__ import annotations

from typing import Any

import torch
from hoirt.errors import PackError
from torch import Tensor
from torch.nn import functional

from .group_norm import group_norm
from .operators import Attributes, operand, operator, tensor_of

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@operator("Conv")
def _conv(
    attributes: Attributes, compute: torch.dtype, x: Tensor, w: Tensor, b: Tensor | None = None
) -> Tensor:
    rank = x.ndim - 2
    if w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous():
        x = x.contiguous(memory_format=torch.channels_last)  # the weights say in which layout to go on
    x, padding = _padded(attributes, x, rank)
    return CONVOLUTIONS[rank](
        x,
        w,
        b,
        attributes.get("strides", [1] * rank),
        padding,
        attributes.get("dilations", [1] * rank),
        attributes.get("group", 1),
    )


def _padded(attributes: Attributes, x: Tensor, rank: int) -> tuple[Tensor, list[int]]:
    """Padding as torch's layers take it, after what is not the same on both sides was added to `x`."""
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise PackError("convolutions and pools with auto_pad cannot be compiled")
    pads = list(attributes.get("pads", [0] * 2 * rank))
    if pads[:rank] == pads[rank:]:
        return x, pads[:rank]
    return functional.pad(x, _torch_order(pads)), [0] * rank


def _torch_order(pads: list[Any]) -> list[Any]:
    """ONNX: all begins, then all ends. torch: begin and end of the last axis first."""
    rank = len(pads) // 2
    return [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)]


@operator("AveragePool")
def _average(attributes: Attributes, compute: torch.dtype, x: Tensor) -> Tensor:
    _check_pool(attributes)
    x, padding = _padded(attributes, x, 2)
    return functional.avg_pool2d(
        x,
        attributes["kernel_shape"],
        attributes.get("strides", [1, 1]),
        padding,
        count_include_pad=bool(attributes.get("count_include_pad")),
    )


@operator("MaxPool")
def _maximum(attributes: Attributes, compute: torch.dtype, x: Tensor) -> Tensor:
    _check_pool(attributes)
    pads = list(attributes.get("pads", [0] * 4))
    x = functional.pad(x, _torch_order(pads), value=-torch.inf) if any(pads) else x
    return functional.max_pool2d(x, attributes["kernel_shape"], attributes.get("strides", [1, 1]))


def _check_pool(attributes: Attributes) -> None:
    dilated = any(extent != 1 for extent in attributes.get("dilations", []))
    if attributes.get("ceil_mode") or dilated or len(attributes["kernel_shape"]) != 2:
        raise PackError("pools with ceil_mode, dilations, or not of pictures cannot be compiled")


@operator("GroupNorm")
def _group_norm(attributes: Attributes, compute: torch.dtype, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return group_norm(x, attributes["groups"], w.reshape(-1), b.reshape(-1), attributes["epsilon"])


@operator("GroupNormalization")
def _group_normalization(
    attributes: Attributes, compute: torch.dtype, x: Tensor, w: Tensor, b: Tensor
) -> Tensor:
    repeat = x.shape[1] // w.shape[0]  # one weight for each group before opset 21
    w, b = (value.repeat_interleave(repeat) if repeat > 1 else value for value in (w, b))
    return group_norm(x, attributes["num_groups"], w, b, attributes.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_norm(attributes: Attributes, compute: torch.dtype, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    # One group per channel; instance_norm refuses a single position, which has a variance of 0.
    return functional.group_norm(x, w.shape[0], w, b, attributes.get("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_norm(
    attributes: Attributes, compute: torch.dtype, x: Tensor, w: Tensor, b: Tensor | None = None
) -> Tensor:
    if attributes.get("axis", -1) not in (-1, x.ndim - 1):
        raise PackError("LayerNormalization over several axes cannot be compiled")
    return functional.layer_norm(x, w.shape, w, b, attributes.get("epsilon", 1e-5))


@operator("Pad")
def _pad(
    attributes: Attributes,
    compute: torch.dtype,
    x: Tensor,
    pads: list[Any],
    value: Any = None,
    axes: list[int] | None = None,
) -> Tensor:
    if attributes.get("mode", "constant") != "constant":
        raise PackError(f"Pad in mode {attributes['mode']} cannot be compiled")
    if axes is not None:
        begins, ends = [0] * x.ndim, [0] * x.ndim
        for i, axis in enumerate(axes):
            begins[axis], ends[axis] = pads[i], pads[i + len(axes)]
        pads = [*begins, *ends]
    return functional.pad(x, _torch_order(pads), value=0.0 if value is None else float(operand(value)))


@operator("Resize")
def _resize(
    attributes: Attributes,
    compute: torch.dtype,
    x: Tensor,
    region: Any = None,
    scales: Any = None,
    sizes: Any = None,
) -> Tensor:
    mode = attributes.get("mode", "nearest")
    place = attributes.get("coordinate_transformation_mode", "half_pixel")
    if (mode, place) not in (("nearest", "asymmetric"), ("linear", "half_pixel")) or x.ndim != 4:
        raise PackError(f"Resize in mode {mode} with {place} coordinates cannot be compiled")
    if mode == "nearest" and attributes.get("nearest_mode", "round_prefer_floor") != "floor":
        raise PackError(f"Resize to the nearest pixel by {attributes.get('nearest_mode')} cannot be compiled")
    if sizes is None:
        factors = [float(scale) for scale in (scales if isinstance(scales, list) else scales.tolist())]
        if any(factor != int(factor) for factor in factors) or factors[:2] != [1.0, 1.0]:
            raise PackError(f"Resize by {factors} cannot be compiled")
        sizes = [extent * int(factor) for extent, factor in zip(x.shape, factors, strict=True)]
    names = {"nearest": "nearest", "linear": "bilinear"}
    return functional.interpolate(x, size=tuple(sizes[2:]), mode=names[mode])


LIMITS = {torch.int8: (-128, 127), torch.uint8: (0, 255)}


@operator("QuantizeLinear")
def _quantize(
    attributes: Attributes, compute: torch.dtype, x: Tensor, scale: Any, zero: Any = None
) -> Tensor:
    kind = zero.dtype if isinstance(zero, Tensor) else torch.uint8
    low, high = LIMITS[kind]
    moved = torch.round(x.float() / _along(scale, x, attributes)) + _along(zero, x, attributes)
    return moved.clamp(low, high).to(kind)


@operator("DequantizeLinear")
def _dequantize(
    attributes: Attributes, compute: torch.dtype, x: Tensor, scale: Any, zero: Any = None
) -> Tensor:
    moved = x.float() - _along(zero, x, attributes)
    return (moved * _along(scale, x, attributes)).to(compute)


def _along(value: Any, x: Tensor, attributes: Attributes) -> Tensor | float:
    """A scale or zero point, one or one per place along the axis, as float32 that fits `x`."""
    if value is None:
        return 0.0
    if not isinstance(value, Tensor):
        value = tensor_of(value)
    if value.numel() == 1:
        return value.float().reshape(())
    shape = [1] * x.ndim
    shape[attributes.get("axis", 1)] = -1
    return value.float().reshape(shape)
