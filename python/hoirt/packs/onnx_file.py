"""Looks into an ONNX file without a runtime: its ports, and every tensor in it, wherever it hides.

ONNX files name other files ("external data") and byte ranges in them, and runtimes follow those names. So all
tensors are visited (initialisers, attributes, bodies of loops, functions) and their claims compared with what
is there. A graph can still compute something huge when it runs; this only guards what is read from the file
system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from hoirt.packs.manifest import DTYPES, MANIFEST, FileEntry, PortSpec
from hoirt.packs.wire import LENGTH, Reader, Value

MAX_DEPTH = 24
MAX_ELEMENTS = 1 << 40
MAX_EXTENT = 1 << 31

# Where messages lie in messages: {message: {field number: message}}. Numbers are those of onnx.proto.
CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
SINGULAR = {("model", 7), ("attribute", 5), ("attribute", 6)}  # protobuf would merge the two
FORBIDDEN = {
    ("model", 20): "training information",
    ("graph", 15): "sparse initialisers",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
}
# TensorProto.DataType -> (bits of an element, fields besides raw_data that may hold them)
FLOAT_DATA, INT32_DATA, STRING_DATA, INT64_DATA, RAW_DATA, DOUBLE_DATA, UINT64_DATA = 4, 5, 6, 7, 9, 10, 11
STRING = 8
TYPES: Mapping[int, tuple[int, int]] = {
    1: (32, FLOAT_DATA),
    2: (8, INT32_DATA),
    3: (8, INT32_DATA),
    4: (16, INT32_DATA),
    5: (16, INT32_DATA),
    6: (32, INT32_DATA),
    7: (64, INT64_DATA),
    STRING: (0, STRING_DATA),
    9: (8, INT32_DATA),
    10: (16, INT32_DATA),
    11: (64, DOUBLE_DATA),
    12: (32, UINT64_DATA),
    13: (64, UINT64_DATA),
    16: (16, INT32_DATA),
    **dict.fromkeys((17, 18, 19, 20, 24), (8, INT32_DATA)),  # the float8 family
    **dict.fromkeys((21, 22, 23), (4, INT32_DATA)),  # uint4, int4, float4
    **dict.fromkeys((25, 26), (2, INT32_DATA)),  # uint2, int2
}
PORT_DTYPES = {1: DTYPES[0], 7: DTYPES[1]}
INPUT, OUTPUT = 11, 12  # of a graph
METADATA = 4  # of a port, repeated
DIMS, DATA_TYPE, SEGMENT, NAME, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 3, 8, 13, 14  # of a tensor
SCALARS = {DATA_TYPE, NAME, DATA_LOCATION, RAW_DATA}  # protobuf would take the last of several
EXTERNAL = 1
DATA_FIELDS = {FLOAT_DATA: 4, INT32_DATA: 0, INT64_DATA: 0, DOUBLE_DATA: 8, UINT64_DATA: 0}  # 0: varints


@dataclass
class OnnxFile:
    """inputs and outputs in the order of the file; `weights`: names of the external data files."""

    inputs: dict[str, PortSpec] = field(default_factory=dict)
    outputs: dict[str, PortSpec] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)


def inspect_onnx(name: str, data: bytes, files: Mapping[str, FileEntry]) -> OnnxFile:
    """Reads the ports of an ONNX file and checks its tensors against the pack's `files`. Raises PackError."""
    reader = Reader(name)
    found = OnnxFile()
    stack = [("model", memoryview(data), 0)]
    graphs = 0
    while stack:
        message, view, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise reader.fail(f"messages nested deeper than {MAX_DEPTH}")
        if message == "tensor":
            _check_tensor(reader, view, files, found)
            continue
        main = message == "graph" and depth == 1
        graphs += main
        seen: set[int] = set()
        for number, wire, value in reader.fields(view):
            if (message, number) in FORBIDDEN:
                raise reader.fail(f"it has {FORBIDDEN[message, number]}, which packs do not use")
            child = CHILDREN[message].get(number)
            if child is not None:
                if wire != LENGTH or isinstance(value, int):
                    raise reader.fail(f"field {number} of the {message} is not a message")
                if (message, number) in SINGULAR and number in seen:
                    raise reader.fail(f"field {number} of the {message} stands twice")
                seen.add(number)
                stack.append((child, value, depth + 1))
            elif main and number in (INPUT, OUTPUT):
                ports = found.inputs if number == INPUT else found.outputs
                port = _port(reader, value)
                if port.name in ports:
                    raise reader.fail(f"two ports have the name {port.name!a}")
                ports[port.name] = port
    if graphs != 1:
        raise reader.fail("it has no graph")
    return found


def _only(reader: Reader, message: Value, what: str) -> dict[int, Value]:
    """The fields of a small message in which no field may stand twice."""
    if isinstance(message, int):
        raise reader.fail(f"{what} is not a message")
    fields: dict[int, Value] = {}
    for number, _, value in reader.fields(message):
        if number in fields and number != METADATA:
            raise reader.fail(f"field {number} of {what} stands twice")
        fields[number] = value
    return fields


def _port(reader: Reader, value: Value) -> PortSpec:
    info = _only(reader, value, "a port")
    name = reader.text(info.get(1, memoryview(b"")))[:256]
    what = f"the port {name!a}"
    tensor = _only(reader, _only(reader, info.get(2, 0), what).get(1, 0), what)
    dtype = PORT_DTYPES.get(reader.signed(tensor.get(1, 0)))
    if dtype is None:
        raise reader.fail(f"{what} is none of {', '.join(PORT_DTYPES.values())}")
    shape = tensor.get(2)
    if shape is None or isinstance(shape, int):
        raise reader.fail(f"{what} has no shape")
    extents = []
    for number, _, dimension in reader.fields(shape):
        if number == 1:
            extent = _only(reader, dimension, what).get(1)
            extents.append(-1 if extent is None else reader.signed(extent))
    return PortSpec(name, dtype, tuple(extents))


def _check_tensor(reader: Reader, data: memoryview, files: Mapping[str, FileEntry], found: OnnxFile) -> None:
    """A tensor has exactly one storage, and that storage is as large as its shape and type say."""
    dims: list[int] = []
    kind, location, name = 0, 0, ""
    external: dict[str, str] = {}
    stored: dict[int, int] = {}  # elements by typed field, bytes for raw_data
    seen: set[int] = set()
    for number, wire, value in reader.fields(data):
        if number in SCALARS and number in seen:
            raise reader.fail(f"field {number} of a tensor stands twice")
        seen.add(number)
        if number == DIMS:
            dims.extend(reader.integers(wire, value))
        elif number == DATA_TYPE:
            kind = reader.signed(value)
        elif number == NAME:
            name = reader.text(value)[:128]
        elif number == DATA_LOCATION:
            location = reader.signed(value)
        elif number == EXTERNAL_DATA:
            entry = _only(reader, value, "an external data entry")
            key, text = (reader.text(entry.get(i, memoryview(b""))) for i in (1, 2))
            if key in external:
                raise reader.fail(f"the external data entry {key[:64]!a} stands twice")
            external[key] = text
        elif number == SEGMENT:
            raise reader.fail("it has a tensor in segments, which packs do not use")
        elif number in DATA_FIELDS or number in (RAW_DATA, STRING_DATA):
            stored[number] = stored.get(number, 0) + _count(reader, number, wire, value)

    what = f"the tensor {name!a}"
    if kind not in TYPES:
        raise reader.fail(f"{what} has the element type {kind}, which is not known here")
    if any(not 0 <= extent < MAX_EXTENT for extent in dims) or prod(dims) > MAX_ELEMENTS:
        raise reader.fail(f"{what} claims the shape {ascii(dims)[:100]}")
    bits, home = TYPES[kind]
    elements = prod(dims)
    expected = (elements * bits + 7) // 8
    if location == EXTERNAL or external:
        if location != EXTERNAL or stored or kind == STRING:
            raise reader.fail(f"{what} mixes external data with data of its own")
        found.weights.add(_check_external(reader, what, external, expected, files))
        return
    if not stored and elements == 0:
        return
    if stored.keys() == {RAW_DATA} and kind != STRING:
        if stored[RAW_DATA] != expected:
            raise reader.fail(f"{what} needs {expected} bytes by shape and type, it has {stored[RAW_DATA]}")
        return
    needed = elements if bits in (0, 8, 16, 32, 64) else expected  # smaller types are packed into bytes
    if stored.keys() != {home} or stored[home] != needed:
        raise reader.fail(f"{what} needs {needed} elements in field {home}, it has {stored or 'none'}")


def _count(reader: Reader, number: int, wire: int, value: Value) -> int:
    """How many elements (bytes for raw_data) one occurrence of a data field holds."""
    if number in (RAW_DATA, STRING_DATA):
        if isinstance(value, int):
            raise reader.fail("tensor data has the wrong wire type")
        return len(value) if number == RAW_DATA else 1
    if isinstance(value, int) or wire != LENGTH:
        return 1  # not packed
    size = DATA_FIELDS[number]
    if size == 0:
        return sum(byte < 0x80 for byte in value)  # every varint ends with the only byte below 0x80
    if len(value) % size:
        raise reader.fail("packed tensor data ends in the middle of an element")
    return len(value) // size


def _check_external(
    reader: Reader, what: str, external: Mapping[str, str], expected: int, files: Mapping[str, FileEntry]
) -> str:
    unknown = external.keys() - {"location", "offset", "length", "checksum"}
    if unknown:
        raise reader.fail(f"{what} has the unknown external data keys {ascii(sorted(unknown))[:200]}")
    location = external.get("location", "")
    if location not in files:
        raise reader.fail(
            f"{what} lies in {location[:200]!a}, which is not a file that {MANIFEST} lists; "
            "external data must lie in the pack"
        )
    numbers = {}
    for key, default in (("offset", 0), ("length", expected)):
        text = external.get(key, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise reader.fail(f"{what} has the {key} {text[:40]!a}, expected a number of bytes")
        numbers[key] = int(text)
    offset, length = numbers["offset"], numbers["length"]
    if length != expected:
        raise reader.fail(f"{what} needs {expected} bytes by shape and type, its external data has {length}")
    if offset + length > files[location].bytes:
        raise reader.fail(
            f"{what} ends at byte {offset + length} of {location}, which has {files[location].bytes} bytes"
        )
    return location
