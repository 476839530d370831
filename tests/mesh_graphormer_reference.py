"""MeshGraphormer from the written facts alone: published keys and shapes, and a functional evaluation.

Nothing of `export.mesh_graphormer` is used. The keys are those of graphormer_hand_state_dict.bin, with the
dead weights. Extents may be smaller than the published ones, which are the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JOINTS, COARSE, IMAGE_TOKENS, VERTICES, POSITIONS = 21, 195, 49, 778, 512


@dataclass(frozen=True)
class Extents:
    stem: int = 64
    width: int = 64
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    head: int = 32
    features: int = 2048
    inner: tuple[int, int, int] = (1024, 256, 64)
    outer: tuple[int, int, int] = (512, 128, 3)
    camera: int = 150
    vocabulary: int = 30522
    classes: int = 1000


SMALL = Extents(8, 8, (1, 2, 1), 1, 4, 48, (32, 16, 16), (24, 20, 3), 10, 100, 5)


def hrnet_shapes(e: Extents) -> Shapes:
    """Keys of the classification HRNet, as its authors publish it."""
    shapes: Shapes = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def convolution(name: str, number: int, inputs: int, outputs: int, kernel: int) -> None:
        shapes[f"{name}conv{number}.weight"] = (outputs, inputs, kernel, kernel)
        norm(f"{name}bn{number}", outputs)

    def pair(name: str, inputs: int, outputs: int, kernel: int, bias: bool = False) -> None:
        shapes[f"{name}.0.weight"] = (outputs, inputs, kernel, kernel)
        if bias:
            shapes[f"{name}.0.bias"] = (outputs,)
        norm(f"{name}.1", outputs)

    def bottleneck(name: str, inputs: int, inner: int, downsample: bool) -> None:
        convolution(name, 1, inputs, inner, 1)
        convolution(name, 2, inner, inner, 3)
        convolution(name, 3, inner, 4 * inner, 1)
        if downsample:
            pair(f"{name}downsample", inputs, 4 * inner, 1)

    width = [e.width, 2 * e.width, 4 * e.width, 8 * e.width]
    convolution("", 1, 3, e.stem, 3)
    convolution("", 2, e.stem, e.stem, 3)
    for k in range(4):
        bottleneck(f"layer1.{k}.", e.stem if k == 0 else 4 * e.stem, e.stem, k == 0)
    pair("transition1.0", 4 * e.stem, width[0], 3)
    pair("transition1.1.0", 4 * e.stem, width[1], 3)
    pair("transition2.2.0", width[1], width[2], 3)
    pair("transition3.3.0", width[2], width[3], 3)
    for branches, modules in zip((2, 3, 4), e.modules, strict=True):
        for m in range(modules):
            at = f"stage{branches}.{m}"
            for b in range(branches):
                for k in range(e.blocks):
                    for number in (1, 2):
                        convolution(f"{at}.branches.{b}.{k}.", number, width[b], width[b], 3)
            for target in range(branches):
                for source in range(branches):
                    way = f"{at}.fuse_layers.{target}.{source}"
                    if source > target:
                        pair(way, width[source], width[target], 1)
                    for step in range(target - source):
                        last = step == target - source - 1
                        pair(f"{way}.{step}", width[source], width[target] if last else width[source], 3)
    for b in range(4):
        bottleneck(f"incre_modules.{b}.0.", width[b], e.head * 2**b, True)
    for b in range(3):
        pair(f"downsamp_modules.{b}", 4 * e.head * 2**b, 8 * e.head * 2**b, 3, bias=True)
    pair("final_layer", 32 * e.head, e.features, 1, bias=True)
    shapes["classifier.weight"], shapes["classifier.bias"] = (e.classes, e.features), (e.classes,)
    return shapes


def published_shapes(e: Extents | None = None) -> Shapes:
    e = e or Extents()
    shapes = {f"backbone.{key}": shape for key, shape in hrnet_shapes(e).items()}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, channels: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (channels,), (channels,)

    inputs = 3 + e.features
    linear("grid_feat_dim", 32 * e.head, inputs)
    for block, (c, outputs) in enumerate(zip(e.inner, e.outer, strict=True)):
        at = f"trans_encoder.{block}"
        bert = f"{at}.bert"
        shapes[f"{bert}.embeddings.word_embeddings.weight"] = (e.vocabulary, c)
        shapes[f"{bert}.embeddings.position_embeddings.weight"] = (POSITIONS, c)
        shapes[f"{bert}.embeddings.token_type_embeddings.weight"] = (2, c)
        norm(f"{bert}.embeddings.LayerNorm", c)
        linear(f"{bert}.pooler.dense", c, c)
        shapes[f"{bert}.position_embeddings.weight"] = (POSITIONS, c)
        linear(f"{bert}.img_embedding", inputs, c)
        for k in range(4):
            layer = f"{bert}.encoder.layer.{k}"
            for part in ("query", "key", "value"):
                linear(f"{layer}.attention.self.{part}", c, c)
            linear(f"{layer}.attention.output.dense", c, c)
            norm(f"{layer}.attention.output.LayerNorm", c)
            linear(f"{layer}.intermediate.dense", c, 2 * c)
            linear(f"{layer}.output.dense", 2 * c, c)
            norm(f"{layer}.output.LayerNorm", c)
            if block == 2:
                graph, half = f"{layer}.graph_conv", c // 2
                for name, rows, columns in (("lin1", half, c), ("lin2", c, half), ("skip_conv", c, c)):
                    shapes[f"{graph}.{name}.W"], shapes[f"{graph}.{name}.b"] = (rows, columns), (rows,)
                shapes[f"{graph}.conv.weight"], shapes[f"{graph}.conv.bias"] = (half, half), (half,)
                for name, channels in (("pre_norm", c), ("norm1", half), ("norm2", half)):
                    norm(f"{graph}.{name}", channels)
        linear(f"{at}.cls_head", c, outputs)
        linear(f"{at}.residual", inputs, outputs)
        inputs = outputs
    linear("upsampling", COARSE, VERTICES)
    linear("cam_param_fc", 3, 1)
    linear("cam_param_fc2", JOINTS + COARSE, e.camera)
    linear("cam_param_fc3", e.camera, 3)
    return shapes


def is_dead(key: str) -> bool:
    parts = (".embeddings.", ".pooler.", ".skip_conv.", "backbone.classifier.", "num_batches_tracked")
    return any(part in key for part in parts)


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights under which activations neither vanish nor explode; dead ones are NaN, so that use would show.

    A dead weight takes no memory: one number, expanded.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        if is_dead(key):
            counter = key.endswith("num_batches_tracked")
            state[key] = torch.tensor(7) if counter else torch.full((1,), torch.nan).expand(shape)
            continue
        tensor = torch.empty(shape)
        if len(shape) >= 2:
            bound = 1.0 if "position_embeddings" in key else math.sqrt(3 / math.prod(shape[1:]))
            tensor.uniform_(-bound, bound, generator=generator)
        elif key.endswith(("running_var", "weight")):  # of a norm
            tensor.uniform_(0.6, 1.4, generator=generator)
        else:
            tensor.uniform_(-0.2, 0.2, generator=generator)
        state[key] = tensor
    if "upsampling.weight" in state:  # a mesh of the size of a hand, in front of the camera
        state["upsampling.weight"] *= 0.05
        state["upsampling.bias"] *= 0.2
        state["cam_param_fc3.weight"] *= 0.1
        state["cam_param_fc3.bias"] += torch.tensor([6.0, 0.0, 0.0])
    return state


def evaluate(
    state: Mapping[str, Tensor],
    image: Tensor,
    template: Tensor,
    adjacency: Tensor,
    e: Extents | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """image (N, 3, 224, 224), 0..1 -> vertices (N, 778, 3), camera (N, 3), computed in `dtype`."""
    e = e or Extents()

    def weight(key: str) -> Tensor:
        return state[key].to(dtype)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weight(f"{name}.weight").T + weight(f"{name}.bias")

    def layer_norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-12)
        return centred / deviation * weight(f"{name}.weight") + weight(f"{name}.bias")

    mean, std = (torch.tensor(v, dtype=dtype)[:, None, None] for v in (MEAN, STD))
    with torch.no_grad():
        grid, features = hrnet(lambda key: weight(f"backbone.{key}"), (image.to(dtype) - mean) / std, e)
        count = len(image)
        hand = template.to(dtype).repeat(count, 1, 1)
        queries = torch.cat([hand, features[:, None].repeat(1, JOINTS + COARSE, 1)], dim=2)
        cells = torch.stack([grid[:, :, y, x] for y in range(7) for x in range(7)], dim=1)
        x = torch.cat([queries, linear("grid_feat_dim", cells)], dim=1)
        for block in range(3):
            x = encoder(f"trans_encoder.{block}", x, adjacency.to(dtype), weight, linear, layer_norm)
        joints_and_vertices = x[:, :-IMAGE_TOKENS]
        per_token = linear("cam_param_fc", joints_and_vertices)[:, :, 0]
        camera = linear("cam_param_fc3", linear("cam_param_fc2", per_token))
        coarse = joints_and_vertices[:, JOINTS:]
        vertices = torch.einsum("vk,nkc->nvc", weight("upsampling.weight"), coarse)
        return vertices + weight("upsampling.bias")[:, None], camera


def encoder(
    name: str,
    tokens: Tensor,
    adjacency: Tensor,
    weight: Callable[[str], Tensor],
    linear: Callable[[str, Tensor], Tensor],
    layer_norm: Callable[[str, Tensor], Tensor],
) -> Tensor:
    x = linear(f"{name}.bert.img_embedding", tokens)
    x = x + weight(f"{name}.bert.position_embeddings.weight")[: tokens.shape[1]]
    for k in range(4):
        at = f"{name}.bert.encoder.layer.{k}"
        q, key, value = (linear(f"{at}.attention.self.{part}", x) for part in ("query", "key", "value"))
        size = q.shape[-1] // 4
        seen = []
        for head in range(4):
            of = slice(head * size, (head + 1) * size)
            scores = q[..., of] @ key[..., of].transpose(1, 2) / math.sqrt(size)
            seen.append(scores.softmax(dim=-1) @ value[..., of])
        attended = linear(f"{at}.attention.output.dense", torch.cat(seen, dim=-1))
        x = layer_norm(f"{at}.attention.output.LayerNorm", attended + x)
        if name.endswith(".2"):
            graph = f"{at}.graph_conv"
            mesh = x[:, JOINTS:-IMAGE_TOKENS]
            y = layer_norm(f"{graph}.pre_norm", mesh).relu()
            y = y @ weight(f"{graph}.lin1.W").T + weight(f"{graph}.lin1.b")
            y = layer_norm(f"{graph}.norm1", y).relu()
            y = adjacency @ (y @ weight(f"{graph}.conv.weight")) + weight(f"{graph}.conv.bias")
            y = layer_norm(f"{graph}.norm2", y).relu()
            y = y @ weight(f"{graph}.lin2.W").T + weight(f"{graph}.lin2.b")
            x = torch.cat([x[:, :JOINTS], mesh + y, x[:, -IMAGE_TOKENS:]], dim=1)
        inner = linear(f"{at}.intermediate.dense", x)
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = layer_norm(f"{at}.output.LayerNorm", linear(f"{at}.output.dense", inner) + x)
    return linear(f"{name}.cls_head", x) + linear(f"{name}.residual", tokens)


def hrnet(weight: Callable[[str], Tensor], x: Tensor, e: Extents) -> tuple[Tensor, Tensor]:
    """The grid feature before `final_layer` and the mean after it."""

    def convolution(name: str, x: Tensor, stride: int = 1, bias: bool = False) -> Tensor:
        kernel = weight(f"{name}.weight")
        shift = weight(f"{name}.bias") if bias else None
        return F.conv2d(x, kernel, shift, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, scale, shift = (
            weight(f"{name}.{part}")[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    def pair(name: str, x: Tensor, stride: int = 1, bias: bool = False) -> Tensor:
        return norm(f"{name}.1", convolution(f"{name}.0", x, stride, bias))

    def bottleneck(name: str, x: Tensor, downsample: bool) -> Tensor:
        y = norm(f"{name}.bn1", convolution(f"{name}.conv1", x)).relu()
        y = norm(f"{name}.bn2", convolution(f"{name}.conv2", y)).relu()
        y = norm(f"{name}.bn3", convolution(f"{name}.conv3", y))
        return (y + (pair(f"{name}.downsample", x) if downsample else x)).relu()

    def basic(name: str, x: Tensor) -> Tensor:
        y = norm(f"{name}.bn1", convolution(f"{name}.conv1", x)).relu()
        return (norm(f"{name}.bn2", convolution(f"{name}.conv2", y)) + x).relu()

    def exchange(name: str, given: list[Tensor]) -> list[Tensor]:
        levels = []
        for b, y in enumerate(given):
            for k in range(e.blocks):
                y = basic(f"{name}.branches.{b}.{k}", y)
            levels.append(y)
        result = []
        for target in range(len(levels)):
            parts = []
            for source, y in enumerate(levels):
                way = f"{name}.fuse_layers.{target}.{source}"
                if source > target:
                    y = pair(way, y)
                    factor = 2 ** (source - target)
                    y = y.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
                for step in range(target - source):
                    y = pair(f"{way}.{step}", y, stride=2)
                    y = y if step == target - source - 1 else y.relu()
                parts.append(y)
            result.append(sum(parts[1:], parts[0]).relu())
        return result

    x = norm("bn1", convolution("conv1", x, 2)).relu()
    x = norm("bn2", convolution("conv2", x, 2)).relu()
    for k in range(4):
        x = bottleneck(f"layer1.{k}", x, k == 0)
    levels = [pair("transition1.0", x).relu(), pair("transition1.1.0", x, 2).relu()]
    for branches, modules in zip((2, 3, 4), e.modules, strict=True):
        if branches > 2:
            levels.append(pair(f"transition{branches - 1}.{branches - 1}.0", levels[-1], 2).relu())
        for m in range(modules):
            levels = exchange(f"stage{branches}.{m}", levels)
    y = bottleneck("incre_modules.0.0", levels[0], True)
    for b in range(3):
        down = pair(f"downsamp_modules.{b}", y, 2, bias=True).relu()
        y = bottleneck(f"incre_modules.{b + 1}.0", levels[b + 1], True) + down
    final = pair("final_layer", y, bias=True).relu()
    return y, final.mean(dim=(2, 3))
