"""ONNX operators in torch, of opset 17 to 20 as packs hold them.

Each takes the node's attributes, the dtype that the network computes in, and its inputs: tensors, extents
(see extents.py) where the graph computes with shapes, or None for an input that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hoirt.errors import PackError
from torch import Tensor
from torch.nn import functional

from . import fp8
from .graph import DTYPES

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Registers a function for operators of these names."""

    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def tensor_of(value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Extents as a tensor, where an operator works on tensors only."""
    if isinstance(value, Tensor):
        return value
    items = value if isinstance(value, list) else [value]
    if all(isinstance(item, int | float) for item in items):
        return torch.tensor(value, dtype=dtype)
    made = torch.stack([torch.full((), item, dtype=dtype or torch.int64) for item in items])
    return made if isinstance(value, list) else made[0]


def narrowed(kind: int, compute: torch.dtype) -> torch.dtype:
    """What ONNX's element type stands for in a network that computes in `compute`: floats are all alike."""
    dtype = DTYPES[kind]
    return compute if dtype.is_floating_point and compute != torch.float32 else dtype


def _simple(name: str, function: Callable[..., Tensor]) -> None:
    """An operator without attributes. One number among tensors stays a number."""

    def apply(attributes: Attributes, compute: torch.dtype, *values: Any) -> Any:
        if not any(isinstance(value, Tensor) for value in values):
            values = tuple(tensor_of(value) for value in values)
        return function(*(operand(value) for value in values))

    OPERATORS[name] = apply


def operand(value: Any) -> Any:
    """A value as torch takes it beside a tensor: a vector of one number is that number."""
    if isinstance(value, list):
        return value[0] if len(value) == 1 else tensor_of(value)
    return value


def _div(left: Any, right: Any) -> Tensor:
    whole = isinstance(left, Tensor) and not left.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc" if whole else None)


def _mul(left: Any, right: Any) -> Tensor:
    return torch.mul(left, right) if isinstance(left, Tensor) else torch.mul(right, left)


def _add(left: Any, right: Any) -> Tensor:
    return torch.add(left, right) if isinstance(left, Tensor) else torch.add(right, left)


for _name, _function in {
    "Add": _add,
    "Sub": lambda a, b: a - b,
    "Mul": _mul,
    "Div": _div,
    "Max": lambda a, b: torch.maximum(tensor_of(a), tensor_of(b)),
    "Min": lambda a, b: torch.minimum(tensor_of(a), tensor_of(b)),
    "Sigmoid": torch.sigmoid,
    "Silu": functional.silu,
    "Relu": torch.relu,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "MatMul": torch.matmul,
    "Equal": lambda a, b: torch.eq(tensor_of(a), b),
    "Greater": lambda a, b: torch.gt(tensor_of(a), operand(b)),
    "GreaterOrEqual": lambda a, b: torch.ge(tensor_of(a), operand(b)),
    "Less": lambda a, b: torch.lt(tensor_of(a), operand(b)),
    "LessOrEqual": lambda a, b: torch.le(tensor_of(a), operand(b)),
    "IsNaN": lambda a: torch.isnan(tensor_of(a)),
    "And": lambda a, b: torch.logical_and(tensor_of(a), tensor_of(b)),
    "Or": lambda a, b: torch.logical_or(tensor_of(a), tensor_of(b)),
    "Not": lambda a: torch.logical_not(tensor_of(a)),
}.items():
    _simple(_name, _function)


@operator("Where")
def _where(attributes: Attributes, compute: torch.dtype, condition: Any, yes: Any, no: Any) -> Tensor:
    return torch.where(tensor_of(condition), operand(yes), operand(no))


@operator("Cast")
def _cast(attributes: Attributes, compute: torch.dtype, value: Any) -> Tensor:
    return tensor_of(value).to(narrowed(attributes["to"], compute))


@operator("Shape")
def _shape(attributes: Attributes, compute: torch.dtype, value: Tensor) -> list[Any]:
    return list(value.shape)[attributes.get("start", 0) : attributes.get("end")]


@operator("Reshape")
def _reshape(attributes: Attributes, compute: torch.dtype, value: Any, shape: list[Any]) -> Tensor:
    value = tensor_of(value)
    if not attributes.get("allowzero"):
        shape = [value.shape[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(shape)]
    return value.reshape(shape)


@operator("Flatten")
def _flatten(attributes: Attributes, compute: torch.dtype, value: Tensor) -> Tensor:
    axis = attributes.get("axis", 1)
    return value.reshape(math.prod(value.shape[:axis]), -1)


@operator("Transpose")
def _transpose(attributes: Attributes, compute: torch.dtype, value: Tensor) -> Tensor:
    return value.permute(attributes.get("perm", list(range(value.ndim))[::-1]))


@operator("Unsqueeze")
def _unsqueeze(attributes: Attributes, compute: torch.dtype, value: Any, axes: list[int]) -> Tensor:
    value = tensor_of(value)
    for axis in sorted(axis % (value.ndim + len(axes)) for axis in axes):
        value = value.unsqueeze(axis)
    return value


@operator("Squeeze")
def _squeeze(attributes: Attributes, compute: torch.dtype, value: Tensor, axes: list[int]) -> Tensor:
    return value.squeeze(tuple(axes))


@operator("Concat")
def _concat(attributes: Attributes, compute: torch.dtype, *values: Any) -> Tensor:
    return torch.cat([tensor_of(value) for value in values], attributes["axis"])


@operator("Split")
def _split(attributes: Attributes, compute: torch.dtype, value: Tensor, sizes: Any = None) -> list[Tensor]:
    axis = attributes.get("axis", 0)
    if sizes is None:
        count = attributes["num_outputs"]
        return list(value.chunk(count, axis))
    return list(value.split(sizes, axis))


@operator("Slice")
def _slice(attributes: Attributes, compute: torch.dtype, value: Any, *bounds: Any) -> Tensor:
    value = tensor_of(value)
    starts, ends, axes, steps = (*bounds, None, None)[:4]
    cuts = [slice(None)] * value.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (axes[i] if axes else i) % value.ndim
        step = steps[i] if steps else 1
        if step < 0:
            places = list(range(value.shape[axis]))[start : None if end < -value.shape[axis] else end : step]
            value = value.index_select(axis, torch.tensor(places))
        else:
            cuts[axis] = slice(start, end, step)
    return value[tuple(cuts)]


@operator("Gather")
def _gather(attributes: Attributes, compute: torch.dtype, value: Any, index: Any) -> Tensor:
    value, axis = tensor_of(value), attributes.get("axis", 0)
    if isinstance(index, int):
        return value.select(axis, index)
    index = tensor_of(index).to(value.device)
    if value.ndim == 2 and axis == 0:
        return functional.embedding(index, value)
    shape = (*value.shape[:axis], *index.shape, *value.shape[axis:][1:])
    return value.index_select(axis, index.reshape(-1)).reshape(shape)


@operator("Expand")
def _expand(attributes: Attributes, compute: torch.dtype, value: Any, shape: list[Any]) -> Tensor:
    value = tensor_of(value)
    missing = len(shape) - value.ndim
    wanted = [
        value.shape[i - missing] if i >= missing and isinstance(extent, int) and extent == 1 else extent
        for i, extent in enumerate(shape)
    ]
    return value.expand(wanted)


@operator("ConstantOfShape")
def _constant_of_shape(attributes: Attributes, compute: torch.dtype, shape: list[Any]) -> Tensor:
    from onnx import numpy_helper

    tensor = attributes.get("value")
    if tensor is None:
        return torch.zeros(shape, dtype=compute)
    return torch.full(shape, numpy_helper.to_array(tensor).item(), dtype=narrowed(tensor.data_type, compute))


@operator("Range")
def _range(attributes: Attributes, compute: torch.dtype, start: Any, limit: Any, delta: Any) -> Tensor:
    return torch.arange(start, limit, delta)


@operator("Trilu")
def _trilu(attributes: Attributes, compute: torch.dtype, value: Tensor, diagonal: Any = 0) -> Tensor:
    return (torch.triu if attributes.get("upper", 1) else torch.tril)(value, diagonal or 0)


@operator("Clip")
def _clip(
    attributes: Attributes, compute: torch.dtype, value: Tensor, low: Any = None, high: Any = None
) -> Tensor:
    return torch.clamp(value, operand(low), operand(high))


@operator("ReduceMean")
def _mean(attributes: Attributes, compute: torch.dtype, value: Tensor, axes: list[int]) -> Tensor:
    return value.mean(axes, keepdim=bool(attributes.get("keepdims", 1)))


@operator("ReduceSum")
def _sum(attributes: Attributes, compute: torch.dtype, value: Tensor, axes: list[int]) -> Tensor:
    return value.sum(axes, keepdim=bool(attributes.get("keepdims", 1)))


@operator("ArgMax")
def _argmax(attributes: Attributes, compute: torch.dtype, value: Tensor) -> Tensor:
    if attributes.get("select_last_index"):
        raise PackError("ArgMax of the last of equals cannot be compiled")
    value = value.int() if value.dtype == torch.bool else value
    return value.argmax(attributes.get("axis", 0), keepdim=bool(attributes.get("keepdims", 1)))


@operator("Einsum")
def _einsum(attributes: Attributes, compute: torch.dtype, *values: Tensor) -> Tensor:
    return torch.einsum(attributes["equation"], *values)


@operator("Softmax")
def _softmax(attributes: Attributes, compute: torch.dtype, value: Tensor) -> Tensor:
    return value.softmax(attributes.get("axis", -1))


@operator("Gelu")
def _gelu(attributes: Attributes, compute: torch.dtype, value: Tensor) -> Tensor:
    return functional.gelu(value, approximate=attributes.get("approximate", "none"))


@operator("Gemm")
def _gemm(
    attributes: Attributes, compute: torch.dtype, a: Tensor, b: Tensor, c: Tensor | None = None
) -> Tensor:
    a = a.t() if attributes.get("transA") else a
    b = b if attributes.get("transB") else b.t()
    if attributes.get("alpha", 1.0) != 1.0 or (c is not None and attributes.get("beta", 1.0) != 1.0):
        raise PackError("Gemm with factors other than 1 cannot be compiled")
    return functional.linear(a, b, c)


@operator("MatMulFp8")
def _matmul_fp8(
    attributes: Attributes, compute: torch.dtype, x: Tensor, weight: Tensor, scale: Tensor
) -> Tensor:
    return fp8.multiply(x, weight, scale)


@operator("Attention")
def _attention(
    attributes: Attributes,
    compute: torch.dtype,
    q: Tensor,
    q_scale: Any,
    k: Tensor,
    k_scale: Any,
    v: Tensor,
    mask: Any,
) -> Tensor:
    scale = 1.0
    for factor in (q_scale, k_scale):
        scale *= 1.0 if factor is None else operand(factor)
    bias = None if mask is None else tensor_of(mask).to(q.dtype)
    return functional.scaled_dot_product_attention(q, k.transpose(-1, -2), v, attn_mask=bias, scale=scale)
