"""The encoder blocks of MeshGraphormer: post-norm transformers, the last with graph convolutions.

Lin, Wang, Liu: Mesh Graphormer (ICCV 2021). Attributes are named as in the published weights, which name
BERT's parts; what BERT has and this network does not use is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-12
_LAYERS = 4
_HEADS = 4
_POSITIONS = 512  # rows of the published position embeddings


def _norm(channels: int) -> nn.LayerNorm:
    return nn.LayerNorm(channels, eps=_EPSILON)


class GraphLinear(nn.Module):
    """x (..., inputs) -> x W^T + b (..., outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(outputs, inputs))
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W, self.b)


class GraphConvolution(nn.Module):
    """x (N, V, C) -> A (x weight) + bias, A (V, V) the row-normalised adjacency; dense, as V is small."""

    def __init__(self, channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("adjacency", adjacency, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.adjacency, torch.matmul(x, self.weight)) + self.bias


class GraphResidual(nn.Module):
    """A bottleneck of half the channels around a graph convolution, added to its input (N, V, C)."""

    def __init__(self, channels: int, adjacency: Tensor) -> None:
        super().__init__()
        inner = channels // 2
        self.pre_norm = _norm(channels)
        self.lin1 = GraphLinear(channels, inner)
        self.norm1 = _norm(inner)
        self.conv = GraphConvolution(inner, adjacency)
        self.norm2 = _norm(inner)
        self.lin2 = GraphLinear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lin1(F.relu(self.pre_norm(x)))
        y = self.conv(F.relu(self.norm1(y)))
        return x + self.lin2(F.relu(self.norm2(y)))


class Layer(nn.Module):
    """Self-attention, on mesh tokens a graph convolution, feed-forward; states (N, T, C).

    adjacency: (V, V) for a layer with a graph convolution; joints: the tokens before the V mesh tokens.
    """

    def __init__(self, channels: int, adjacency: Tensor | None, joints: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({k: nn.Linear(channels, channels) for k in ("query", "key", "value")}),
                "output": nn.ModuleDict(
                    {"dense": nn.Linear(channels, channels), "LayerNorm": _norm(channels)}
                ),
            }
        )
        self.graph_conv = None if adjacency is None else GraphResidual(channels, adjacency)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(channels, 2 * channels)})
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(2 * channels, channels), "LayerNorm": _norm(channels)}
        )
        self._mesh = None if adjacency is None else slice(joints, joints + len(adjacency))

    def forward(self, states: Tensor) -> Tensor:
        states = self._attend(states)
        if self.graph_conv is not None and self._mesh is not None:
            mesh = self._mesh
            convolved = self.graph_conv(states[:, mesh])
            states = torch.cat([states[:, : mesh.start], convolved, states[:, mesh.stop :]], dim=1)
        inner = F.gelu(self.intermediate["dense"](states))
        out: Tensor = self.output["LayerNorm"](self.output["dense"](inner) + states)
        return out

    def _attend(self, states: Tensor) -> Tensor:
        # Plain integers, also when traced: otherwise every reshape would carry shape arithmetic in the graph.
        tokens, channels = int(states.shape[1]), int(states.shape[2])
        size = channels // _HEADS
        heads = [
            layer(states).reshape(-1, tokens, _HEADS, size).transpose(1, 2)
            for layer in self.attention["self"].values()  # query, key, value
        ]
        attended = F.scaled_dot_product_attention(*heads, scale=size**-0.5)
        attended = attended.transpose(1, 2).reshape(-1, tokens, channels)
        output = self.attention["output"]
        out: Tensor = output["LayerNorm"](output["dense"](attended) + states)
        return out


class EncoderBlock(nn.Module):
    """tokens (N, T, inputs) -> (N, T, outputs), T up to 512."""

    def __init__(
        self, inputs: int, channels: int, outputs: int, adjacency: Tensor | None = None, joints: int = 0
    ) -> None:
        super().__init__()
        layers = (Layer(channels, adjacency, joints) for _ in range(_LAYERS))
        self.bert = nn.ModuleDict(
            {
                "position_embeddings": nn.Embedding(_POSITIONS, channels),
                "img_embedding": nn.Linear(inputs, channels),
                "encoder": nn.ModuleDict({"layer": nn.Sequential(*layers)}),
            }
        )
        self.cls_head = nn.Linear(channels, outputs)
        self.residual = nn.Linear(inputs, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.bert["position_embeddings"].weight[: tokens.shape[1]]
        states = self.bert["encoder"]["layer"](self.bert["img_embedding"](tokens) + positions)
        out: Tensor = self.cls_head(states) + self.residual(tokens)
        return out
