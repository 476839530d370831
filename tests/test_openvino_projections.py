"""Transformers in bfloat16 on OpenVINO: norm, projection, gate or sum as one operation, against torch."""

import hoirt.backends
import numpy as np
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from int8_tools import quantised
from torch import nn
from torch.nn import functional

RNG = np.random.default_rng(0)
HAS_BF16 = hoirt.backends.load("openvino").precisions("cpu")[0] == "bf16"
pytestmark = pytest.mark.skipif(not HAS_BF16, reason="this processor has no AVX512-BF16")


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def exported(module, path, **inputs):
    """Every extent is free but that of the channels: axis 1 of pictures, the last of tokens."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    axes = {4: (0, 2, 3), 3: (0, 1), 2: (0,), 1: (0,)}
    free = {name: {axis: f"{name}{axis}" for axis in axes[value.ndim]} for name, value in inputs.items()}
    values = tuple(torch.from_numpy(value) for value in inputs.values())
    with torch.inference_mode():
        free["y"] = {axis: f"y{axis}" for axis in axes[module.eval()(*values).ndim]}
    torch.onnx.export(
        module,
        values,
        str(path),
        input_names=list(inputs),
        output_names=["y"],
        dynamic_axes=free,
        opset_version=20,
        dynamo=False,
    )
    return path


def opened(path, threads=2):
    return hoirt.backends.load("openvino").open(
        str(path), cache_path=str(path.with_suffix(".cache")), precision="bf16", threads=threads
    )


def bytes_of_program(path):
    return max(file.stat().st_size for file in path.parent.glob(f"{path.stem}.cache*"))


def check(path, module, bound=0.01, **inputs):
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, inputs.values())).numpy()
    found = opened(path).run(inputs)["y"]
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) < bound * np.linalg.norm(expected)
    return found


class Spatial(nn.Module):
    """A transformer of Stable Diffusion between two blocks that pass pictures on with their channels last."""

    def __init__(self, linear=False, channels=320):
        super().__init__()
        self.first = ResnetBlock2D(in_channels=channels, temb_channels=None)
        self.transformer = Transformer2DModel(
            num_attention_heads=8,
            attention_head_dim=channels // 8,
            in_channels=channels,
            cross_attention_dim=256,
            use_linear_projection=linear,
        )
        self.second = ResnetBlock2D(in_channels=channels, temb_channels=None)

    def forward(self, x, context):
        x = self.first(x, None)
        x = self.transformer(x, encoder_hidden_states=context, return_dict=False)[0]
        return self.second(x, None)


@pytest.fixture(scope="module", params=[False, True], ids=["convolutions", "linear"])
def spatial(request, tmp_path_factory):
    module = Spatial(request.param)
    path = tmp_path_factory.mktemp("spatial") / "net.onnx"
    return exported(module, path, x=normal(2, 320, 6, 5), context=normal(2, 7, 256)), module


@pytest.mark.parametrize("extents", [(1, 2, 2), (2, 9, 7), (1, 20, 24), (3, 5, 16)])
@pytest.mark.parametrize("keys", [1, 77])
def test_spatial_transformers(spatial, extents, keys):
    batch, height, width = extents
    path, module = spatial
    check(path, module, x=normal(batch, 320, height, width), context=normal(batch, keys, 256), bound=0.02)


def test_transformers_in_int8(spatial):
    path, module = spatial
    inputs = {"x": normal(2, 320, 12, 16), "context": normal(2, 11, 256)}
    bytes_only = quantised(path, **inputs)
    check(bytes_only, module, **inputs, bound=0.06)
    results = [opened(bytes_only, threads).run(inputs)["y"] for threads in (1, 3)]
    assert np.array_equal(*results)


def test_weights_are_packed_as_halves(spatial):
    """Told from the cache, which keeps what OpenVINO multiplies as it is in the file: four bytes a number."""
    path, module = spatial
    opened(path).run({"x": normal(1, 320, 4, 4), "context": normal(1, 3, 256)})
    taps = 36 / 9  # of tiles of 4x4 pixels
    numbers = 0
    for weight in module.parameters():
        numbers += (taps if weight.shape[-1] == 3 else 1) * weight.numel() if weight.ndim > 1 else 0
    expected, one_layer = 2 * numbers, 2 * 320 * 320
    assert expected < bytes_of_program(path) < expected + one_layer


def test_bits_do_not_depend_on_the_number_of_threads(spatial):
    path, _ = spatial
    inputs = {"x": normal(2, 320, 11, 9), "context": normal(2, 13, 256)}
    results = [opened(path, threads).run(inputs)["y"] for threads in (1, 2, 5)]
    assert all(np.array_equal(results[0], other) for other in results[1:])


class Skip(nn.Module):
    """A decoder's block: a ControlNet's features are scaled and added to a skip, which joins the picture."""

    def __init__(self, channels=256):
        super().__init__()
        self.before, self.skip, self.control = (
            ResnetBlock2D(in_channels=channels, temb_channels=None) for _ in range(3)
        )
        self.zero = nn.Conv2d(channels, channels, 1)
        self.block = ResnetBlock2D(in_channels=2 * channels, out_channels=channels, temb_channels=None)

    def forward(self, x, c, scale):
        skip = self.skip(x, None) + self.zero(self.control(c, None)) * scale[:, None, None, None]
        return self.block(torch.cat([self.before(x, None), skip], 1), None)


def test_skips_with_control(tmp_path):
    module = Skip()
    inputs = {"x": normal(2, 256, 7, 10), "c": normal(2, 256, 7, 10), "scale": np.float32([0.3, 2])}
    path = exported(module, tmp_path / "net.onnx", **inputs)
    both = check(path, module, **inputs, bound=0.02)
    other = check(path, module, **{**inputs, "scale": np.float32([0.3, 0])}, bound=0.02)
    assert np.array_equal(both[0], other[0])
    assert not np.array_equal(both[1], other[1])
    check(path, module, **{**inputs, "scale": np.float32([0.7])}, bound=0.02)  # for both
    one = {**inputs, "c": inputs["c"][:1]}
    check(path, module, **one, bound=0.02)


class Gate(nn.Module):
    """Gated units, and some that look alike."""

    def __init__(self, kind, channels=256):
        super().__init__()
        self.kind = kind
        self.norm = nn.LayerNorm(channels)
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(2 * channels, channels)

    def forward(self, x):
        first, second = self.wide(self.norm(x)).chunk(2, -1)
        if self.kind == "gelu":
            mixed = first * functional.gelu(second)
        elif self.kind == "swapped":
            mixed = functional.gelu(first) * second
        elif self.kind == "tanh":
            mixed = first * functional.gelu(second, approximate="tanh")
        elif self.kind == "silu":
            mixed = first * functional.silu(second)
        else:  # one half is used twice
            mixed = first * functional.gelu(second) + first
        return x + self.narrow(mixed)


@pytest.mark.parametrize("kind", ["gelu", "swapped", "tanh", "silu", "twice"])
@pytest.mark.parametrize("tokens", [1, 50])
@pytest.mark.parametrize("int8", [False, True])
def test_gates(tmp_path, kind, tokens, int8):
    module = Gate(kind)
    x = normal(2, tokens, 256)
    path = exported(module, tmp_path / "net.onnx", x=x)
    check(quantised(path, x=x) if int8 else path, module, x=x, bound=0.03 if int8 else 0.01)


class Several(nn.Module):
    """Products of the same tokens, more than become one operation, of two widths."""

    def __init__(self, norm):
        super().__init__()
        self.norm = nn.LayerNorm(256) if norm else nn.Identity()
        self.layers = nn.ModuleList(nn.Linear(256, 256 + 64 * (i == 2), bias=i != 1) for i in range(5))

    def forward(self, x):
        x = self.norm(x)
        return torch.cat([x, *(layer(x) for layer in self.layers)], -1)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("shape", [(2, 9, 256), (3, 256)])
def test_several_products_of_the_same_tokens(tmp_path, norm, shape):
    module, x = Several(norm), normal(*shape)
    check(exported(module, tmp_path / "net.onnx", x=x), module, x=x)


def test_scales_of_int8_are_found_as_it_runs(tmp_path):
    """OpenVINO's layers would cut off what is far beyond the values that were measured."""
    module, x = Several(norm=False), normal(2, 9, 256)
    path = quantised(exported(module, tmp_path / "net.onnx", x=x), x=x)
    check(path, module, x=x * 100, bound=0.02)


@pytest.mark.parametrize("shapes", [((2, 5), (2, 5)), ((2, 5), (1, 5)), ((2, 5), (2, 1)), ((1, 5), (2, 1))])
@pytest.mark.parametrize("picture", [False, True])
def test_sums_that_are_broadcast(tmp_path, shapes, picture):
    """A residual need not have the extents of what it is added to, nor the sum."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(256, 256, 1) if picture else nn.Linear(256, 256)
            self.block = ResnetBlock2D(in_channels=256, temb_channels=None) if picture else nn.Identity()

        def forward(self, x, r):
            return r + self.layer(self.block(x, None) if picture else x)

    module = Sum()
    x, r = (normal(n, 256, t, 3) if picture else normal(n, t, 256) for n, t in shapes)
    example = normal(2, 256, 5, 3) if picture else normal(2, 5, 256)
    path = exported(module, tmp_path / "net.onnx", x=example, r=r)
    check(path, module, x=x, r=r)


def test_narrow_networks_are_left_to_openvino(tmp_path):
    module = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 128))
    x = normal(2, 9, 128)
    path = exported(module, tmp_path / "net.onnx", x=x)
    check(path, module, x=x)
    assert bytes_of_program(path) > 4 * 128 * 128
