"""Operators on extents: what a graph computes with shapes is done with Python's numbers, or symbols for them.

An extent or number is an int, float or symbol; a vector of them is a list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hoirt.errors import PackError

Value = Any  # int, float, torch.SymInt, or a list of them


def evaluate(op: str, values: list[Value], attributes: Mapping[str, Any]) -> Value:
    """The result of an ONNX operator on extents."""
    return OPERATORS[op](values, attributes)


def _elementwise(function: Callable[..., Any]) -> Callable[[list[Value], Mapping[str, Any]], Value]:
    def apply(values: list[Value], attributes: Mapping[str, Any]) -> Value:
        length = max((len(value) for value in values if isinstance(value, list)), default=0)
        if not length:
            return function(*values)
        columns = [_spread(value, length) for value in values]
        return [function(*row) for row in zip(*columns, strict=True)]

    return apply


def _spread(value: Value, length: int) -> list[Any]:
    if not isinstance(value, list):
        return [value] * length
    return value * length if len(value) == 1 else value


def _divide(left: Any, right: Any) -> Any:
    return left / right if isinstance(left, float) or isinstance(right, float) else left // right


def _cast(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    floating = attributes["to"] in (1, 10, 11, 16)
    return _elementwise(lambda v: float(v) if floating else v if not isinstance(v, float) else int(v))(
        values, {}
    )


def _gather(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    data, index = values
    return [data[i] for i in index] if isinstance(index, list) else data[index]


def _slice(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    data, start, end, *rest = values
    step = rest[1][0] if len(rest) > 1 else 1
    return data[start[0] : end[0] : step]


def _concat(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


def _vector(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    return values[0] if isinstance(values[0], list) else [values[0]]


def _scalar(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    value = values[0]
    if isinstance(value, list) and len(value) != 1:
        raise PackError("Squeeze of a shape with several extents")
    return value[0] if isinstance(value, list) else value


def _filled(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    from onnx import numpy_helper

    tensor = attributes.get("value")
    return [0.0 if tensor is None else numpy_helper.to_array(tensor).item()] * values[0][0]


def _reshape(values: list[Value], attributes: Mapping[str, Any]) -> Value:
    return _vector(values, attributes) if values[1] else _scalar(values, attributes)


OPERATORS: Mapping[str, Callable[[list[Value], Mapping[str, Any]], Value]] = {
    "Add": _elementwise(lambda a, b: a + b),
    "Sub": _elementwise(lambda a, b: a - b),
    "Mul": _elementwise(lambda a, b: a * b),
    "Div": _elementwise(_divide),
    "Max": _elementwise(max),
    "Min": _elementwise(min),
    "Sqrt": _elementwise(math.sqrt),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Equal": _elementwise(lambda a, b: a == b),
    "Where": _elementwise(lambda condition, yes, no: yes if condition else no),
    "Gather": _gather,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _scalar,
    "Unsqueeze": _vector,
}
