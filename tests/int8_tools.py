"""Small networks in int8, as `hoirt pack quantize` writes them."""

import onnx_ir as ir

from export.int8.layers import find_layers
from export.int8.qdq import rewrite
from export.int8.ranges import measure


def quantised(path, **inputs):
    """The file beside `path` with every layer in int8, measured on these inputs."""
    model = ir.load(path)
    layers = find_layers(model)
    ranges = measure(path, {str(layer.activation.name): layer.channel for layer in layers}, [inputs])
    rewrite(model, layers, ranges)
    target = path.with_stem("int8")
    ir.save(model, target)
    return target
