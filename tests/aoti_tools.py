"""What tests of the aoti importer have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from export.aoti.graph import Graph
from export.aoti.module import OnnxModule


def run(graph: Graph, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The outputs of a graph by name, of `values` by the names of its inputs."""
    with torch.no_grad():
        made = OnnxModule(graph)(*[values[port.name] for port in graph.inputs])
    return dict(zip([port.name for port in graph.outputs], made, strict=True))
