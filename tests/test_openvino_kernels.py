"""The OpenVINO backend's operations in bfloat16 and int8: found in graphs as exported, exact to rounding."""

import hoirt.backends
import numpy as np
import pytest
import torch
from int8_tools import quantised
from onnx import helper
from onnx_models import reference, save, value
from torch import nn

RNG = np.random.default_rng(0)
HAS_BF16 = hoirt.backends.load("openvino").precisions("cpu")[0] == "bf16"
TAPS = 36  # of a kernel in tiles of 4x4 pixels; those of doubled pixels and int8 have 16
pytestmark = pytest.mark.skipif(not HAS_BF16, reason="this processor has no AVX512-BF16")


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


class Residual(nn.Module):
    """Group norm, SiLU, convolution, as in every residual block of Stable Diffusion."""

    def __init__(self, channels=128, out=160, groups=32, bias=True, eps=1e-5, activation=nn.SiLU):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps)
        self.activation = activation()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=bias)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x):
        return self.conv(self.activation(self.norm(x)))


class SelfAttention(nn.Module):
    def __init__(self, channels=320, heads=8):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(channels, channels, bias=False) for _ in range(3))

    def forward(self, x):
        batch, _, channels = x.shape

        def cut(states):
            return states.view(batch, -1, self.heads, channels // self.heads).transpose(1, 2)

        mixed = nn.functional.scaled_dot_product_attention(cut(self.q(x)), cut(self.k(x)), cut(self.v(x)))
        return mixed.transpose(1, 2).reshape(batch, -1, channels)


class Block(nn.Module):
    """A residual block of Stable Diffusion: the timestep between its convolutions, and a shortcut."""

    def __init__(self, channels=128, out=128, shortcut=False):
        super().__init__()
        self.first, self.second = Residual(channels, out), Residual(out, out)
        self.shortcut = nn.Conv2d(channels, out, 1) if shortcut else nn.Identity()

    def forward(self, x):
        embedding = x.mean((2, 3))[:, :1].expand(-1, self.first.conv.out_channels)
        return self.shortcut(x) + self.second(self.first(x) + embedding[:, :, None, None])


class Upsampler(nn.Module):
    def __init__(self, channels=128, out=160, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1, bias=bias)

    def forward(self, x):
        return self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))


def exported(module, example, path, free):
    torch.manual_seed(0)
    names = dict(zip(free, "nhwt", strict=False))
    torch.onnx.export(
        module.eval(),
        (torch.from_numpy(example),),
        str(path),
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": names, "y": dict(names)},
        opset_version=18,
        dynamo=False,
    )
    return path


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def opened(path, cache="", threads=2):
    return hoirt.backends.load("openvino").open(
        str(path), cache_path=str(cache), precision="bf16", threads=threads
    )


def check(path, module, inputs, cache="", bound=0.01):
    with torch.inference_mode():
        expected = module(torch.from_numpy(inputs)).numpy()
    found = opened(path, cache).run({"x": inputs})["y"]
    assert found.shape == expected.shape
    assert relative(found, expected) < bound
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"channels": 320, "out": 128},
        {"eps": 1e-2},
        {"groups": 1},
        {"out": 672},  # in tiles of 2x2
        {"channels": 96},  # left to OpenVINO, like the next ones
        {"out": 130},
        {"activation": nn.GELU},
        {"activation": nn.Identity},
    ],
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 10), (1, 33, 8)])
def test_norm_and_convolution(tmp_path, options, shape):
    batch, height, width = shape
    module = Residual(**options)
    x = normal(batch, options.get("channels", 128), height, width)
    if x[0, 0].size == 1 and options.get("groups", 32) == 32:
        x = np.repeat(np.repeat(x, 2, 2), 2, 3)  # a group of few pixels
    # Tiles of 4x4 pixels round more; a picture of a few pixels sees their worst corner.
    check(exported(module, x, tmp_path / "net.onnx", (0, 2, 3)), module, x, bound=0.02)


@pytest.mark.parametrize("tokens", [1, 31, 64, 200])
@pytest.mark.parametrize("heads", [8, 4])
def test_self_attention(tmp_path, tokens, heads):
    module = SelfAttention(heads=heads)
    path = exported(module, normal(2, 16, 320), tmp_path / "net.onnx", (0, 1))
    check(path, module, normal(2, tokens, 320))


def test_the_cache_holds_our_operations(tmp_path):
    module = nn.Sequential(Residual(), Residual(160, 128))
    x = normal(1, 128, 9, 12)
    path = exported(module, x, tmp_path / "net.onnx", (0, 2, 3))
    first = check(path, module, x, tmp_path / "cache")
    files = {file: file.read_bytes() for file in tmp_path.glob("cache*")}
    assert TAPS * 2 * 2 * 128 * 160 < max(map(len, files.values())) < TAPS * 2 * 2 * 128 * 160 + 65536
    again = check(path, module, x, tmp_path / "cache")
    assert np.array_equal(first, again)
    assert {file: file.read_bytes() for file in tmp_path.glob("cache*")} == files


def test_bits_do_not_depend_on_the_number_of_threads(tmp_path):
    x = normal(2, 128, 24, 20)
    path = exported(Residual(), x, tmp_path / "net.onnx", (0, 2, 3))
    results = [opened(path, threads=threads).run({"x": x})["y"] for threads in (1, 2, 5)]
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_a_picture_that_other_nodes_use_too(tmp_path):
    """The residual sum reads the same picture as the norm."""

    class Sum(Residual):
        def forward(self, x):
            return x + super().forward(x)

    module = Sum(128, 128)
    x = normal(2, 128, 6, 6)
    check(exported(module, x, tmp_path / "net.onnx", (0, 2, 3)), module, x)


@pytest.mark.parametrize("conv", [{"pads": [0, 0, 0, 0]}, {"pads": [1, 1, 1, 1], "strides": [2, 2]}])
def test_other_convolutions_are_left_alone(tmp_path, conv):
    weights = {"w": normal(128, 128, 3, 3) / 34, "s": normal(128), "b": normal(128)}
    nodes = [
        helper.make_node("GroupNormalization", ["x", "s", "b"], ["g"], num_groups=32),
        helper.make_node("Sigmoid", ["g"], ["gate"]),
        helper.make_node("Mul", ["g", "gate"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], **conv),
    ]
    shape = ["n", 128, "h", "w"]
    path = save(
        tmp_path / "net.onnx", nodes, [value("x", shape)], [value("y", ["n", 128, "H", "W"])], weights
    )
    x = normal(1, 128, 8, 9)
    (expected,) = reference(path, {"x": x})
    assert relative(opened(path).run({"x": x})["y"], expected) < 0.01


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("out", [128, 160])
@pytest.mark.parametrize("int8", [False, True])
def test_residual_blocks(tmp_path, shortcut, out, int8):
    """Two in a row: what one passes to the next stays with its channels last."""
    module = nn.Sequential(Block(128, out, shortcut or out != 128), Block(out, out))
    x = normal(2, 128, 9, 12)
    path = exported(module, x, tmp_path / "net.onnx", (0, 2, 3))
    check(quantised(path, x=x) if int8 else path, module, x, bound=0.06 if int8 else 0.01)


def test_a_sum_that_is_broadcast_is_left_alone(tmp_path):
    class Broadcast(Residual):
        def forward(self, x):
            return super().forward(x) + x[:, :, :1, :]

    module = Broadcast(128, 128)
    x = normal(2, 128, 6, 5)
    check(exported(module, x, tmp_path / "net.onnx", (0, 2, 3)), module, x)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"channels": 96}, {"out": 128}])
@pytest.mark.parametrize("int8", [False, True])
def test_upsamplers(tmp_path, options, int8):
    module = nn.Sequential(Upsampler(**options), Residual(options.get("out", 160), 128))
    x = normal(2, options.get("channels", 128), 5, 7)
    path = exported(module, x, tmp_path / "net.onnx", (0, 2, 3))
    check(quantised(path, x=x) if int8 else path, module, x, bound=0.06 if int8 else 0.01)


@pytest.mark.parametrize("heads", [8, 4])
def test_self_attention_in_int8(tmp_path, heads):
    module = SelfAttention(heads=heads)
    x = normal(2, 200, 320)
    path = quantised(exported(module, x[:, :16], tmp_path / "net.onnx", (0, 1)), x=x)
    check(path, module, x, bound=0.05)


def test_our_operations_run(tmp_path):
    """Told from the cache: a number per tap, of two bytes or one; OpenVINO keeps nine of four or one."""
    x = normal(1, 128, 6, 6)
    module = nn.Sequential(Upsampler(out=128), Residual(128, 128))
    path = exported(module, x, tmp_path / "net.onnx", (0, 2, 3))
    for each, bytes_of_both in ((path, (16 + TAPS) * 2), (quantised(path, x=x), 16 + 16)):
        opened(each, each.with_suffix(".cache")).run({"x": x})
        size = max(file.stat().st_size for file in tmp_path.glob(f"{each.stem}.cache*"))
        weights = bytes_of_both * 128 * 128
        assert weights < size < weights + 65536
