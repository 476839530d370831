"""How packages compute in half precision: group normalisation, casts of inputs."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from export.aoti.group_norm import BLOCK, INLINE, chunks_of, group_norm
from export.aoti.inputs import cast
from export.aoti.kernels import choose_kernels
from export.aoti.settings import configuration

BF16, FP16 = torch.bfloat16, torch.float16
ROUNDING = {BF16: 2**-8, FP16: 2**-11}  # half of the last place


def last(x: Tensor) -> Tensor:
    """Channels last, as the convolutions of a package leave them."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def of_float64(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    rows = x.double().reshape(x.shape[0], groups, -1)
    normed = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    column = (-1, *[1] * (x.ndim - 2))
    return normed.reshape(x.shape) * weight.double().reshape(column) + bias.double().reshape(column)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([2, 3, 10, 40]),
    st.lists(st.integers(1, 70), min_size=1, max_size=2),
    st.sampled_from([BF16, FP16]),
    st.sampled_from([0.0, 1.0, -7.0]),
    st.integers(0, 2**32 - 1),
)
def test_group_norm_equals_float64(
    batch: int, groups: int, wide: int, extents: list[int], kind: torch.dtype, offset: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    channels = groups * wide
    assume(chunks_of(math.prod(extents), math.prod(extents) * wide))  # else it is torch's, which errs more
    x = last((torch.randn(batch, channels, *extents, generator=random) + offset).to(kind))
    weight, bias = (torch.randn(channels, generator=random).to(kind) for _ in range(2))
    found, wanted = group_norm(x, groups, weight, bias, 1e-5), of_float64(x, groups, weight, bias)
    assert found.dtype == kind and found.shape == x.shape
    assert found.movedim(1, -1).is_contiguous()
    # What float32 loses: of the mean, and of the variance as a difference of two larger numbers.
    rows = x.double().reshape(batch, groups, -1)
    ratio = rows.square().mean(-1) / (rows.var(-1, correction=0) + 1e-5)
    lost = 1e-5 + 8 * 2**-24 * ratio.max() * (1 + wanted.abs().max() + bias.abs().max())
    error = (found.double() - wanted).abs()
    assert bool((error <= ROUNDING[kind] * wanted.abs() + lost).all())


@pytest.mark.parametrize(("kind", "mean"), [(BF16, 10.0), (BF16, 100.0), (FP16, 10.0), (FP16, 30.0)])
def test_group_norm_far_from_zero(place: str, kind: torch.dtype, mean: float) -> None:
    """The error stays in the order of the result's rounding."""
    torch.manual_seed(0)
    x = last((torch.randn(2, 320, 32, 32) + mean).to(kind)).to(place)
    weight, bias = torch.ones(320, dtype=kind, device=place), torch.zeros(320, dtype=kind, device=place)
    error = group_norm(x, 32, weight, bias, 1e-5).double() - of_float64(x, 32, weight, bias)
    assert float(error.abs().max()) <= 2 * 4 * ROUNDING[kind]  # results go beyond 4


def test_a_group_of_one_value_is_its_bias() -> None:
    x = last(torch.full((1, 64, 16, 16), 3.14159, dtype=BF16))
    bias = torch.linspace(-1, 1, 64).to(BF16)
    found = group_norm(x, 32, torch.ones(64, dtype=BF16), bias, 1e-6)
    torch.testing.assert_close(found, bias[None, :, None, None].expand_as(x), rtol=0, atol=4e-3)


def test_what_is_not_finite_stays_seen() -> None:
    x = last(torch.randn(1, 64, 16, 16).to(BF16))
    x[0, 0, 0, 0] = torch.nan
    found = group_norm(x, 32, torch.ones(64, dtype=BF16), torch.zeros(64, dtype=BF16), 1e-6)
    assert bool(found[:, :2].isnan().all()) and bool(found[:, 2:].isfinite().all())


@pytest.mark.parametrize("layout", ["float32", "channels first", "no good number of chunks"])
def test_all_else_is_torchs(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    usual = functional.group_norm
    monkeypatch.setattr(functional, "group_norm", lambda *given: called.append(1) or usual(*given))
    x = torch.randn(1, 8, 67, 61) if layout.startswith("no") else torch.randn(1, 8, 6, 5)
    if layout.startswith("no"):
        monkeypatch.setattr("export.aoti.group_norm.BLOCK", 100)
    x = x.to(torch.float32 if layout == "float32" else BF16)
    x = x if layout == "channels first" else last(x)
    weight, bias = torch.ones(8, dtype=x.dtype), torch.zeros(8, dtype=x.dtype)
    found = group_norm(x, 2, weight, bias, 1e-5)
    assert called
    torch.testing.assert_close(found, usual(x, 2, weight, bias, 1e-5))


@given(st.integers(1, 10**6), st.integers(1, 200))
def test_chunks_are_equal_and_no_larger_than_they_need_be(pixels: int, wide: int) -> None:
    elements = pixels * wide
    count = chunks_of(pixels, elements)
    assert count == 0 or pixels % count == 0
    if elements <= BLOCK:
        assert count == 1
    elif count > INLINE:
        assert BLOCK / 8 <= elements / count <= BLOCK


def test_sizes_of_stable_diffusion_have_chunks() -> None:
    """Every group normalisation of SD1.5, SDXL and their autoencoders, at 512 and 1024 and an odd size."""
    sides = [(64, 64), (128, 128), (72, 88), (512, 512), (1024, 1024), (568, 760)]
    widths = [128, 256, 320, 512, 640, 960, 1280, 1920, 2560]
    for (height, width), channels in itertools.product(sides, widths):
        for shrunk in (1, 2, 4, 8):
            pixels = (height // shrunk) * (width // shrunk)
            assert chunks_of(pixels, pixels * channels // 32) > 0


def test_a_cast_keeps_values_and_layout() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    made = cast(x, BF16)
    assert made.stride() == x.to(BF16).stride() and torch.equal(made, x.to(BF16))
    assert cast(made, BF16) is made


class Layer(nn.Module):
    """A convolution, a group normalisation as packages compute it, SiLU, and attention over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 64, 3, padding=1)
        self.norm = nn.GroupNorm(8, 64)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x, context = cast(x, BF16), cast(context, BF16)
        h = self.conv(x.contiguous(memory_format=torch.channels_last))
        h = functional.silu(group_norm(h, 8, self.norm.weight, self.norm.bias, 1e-5))
        rows = h.flatten(2).transpose(1, 2).unflatten(-1, (2, 32)).transpose(1, 2)
        keys, values = (part.unflatten(-1, (2, 32)).transpose(1, 2) for part in context.chunk(2, -1))
        y = functional.scaled_dot_product_attention(rows, keys, values)
        y = y + functional.scaled_dot_product_attention(rows, rows, rows, scale=0.2)
        return y.transpose(1, 2).flatten(2).float()


@pytest.fixture(scope="module")
def layer() -> Layer:
    torch.manual_seed(0)
    made = Layer().to(BF16).to(memory_format=torch.channels_last)
    return made.eval().requires_grad_(False)


def inputs(batch: int, place: str = "cpu") -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, 4, 40, 48, generator=random)
    return x.to(place), torch.randn(batch, 7, 128, generator=random).to(place)


def exported(layer: Layer, place: str = "cpu") -> torch.export.ExportedProgram:
    free = torch.export.Dim("batch", min=1, max=64)
    shapes = {"x": {0: free}, "context": {0: free}}
    return torch.export.export(layer.to(place), inputs(2, place), dynamic_shapes=shapes, strict=False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
def test_a_package_for_any_batch(place: str, layer: Layer, tmp_path: Path) -> None:
    """The settings of a GPU, on the CPU too: one module for all batches, equal to the layer in float64."""
    program = exported(layer, place)
    if place != "cpu":
        assert len(list(choose_kernels(program, place))) == 2
    chosen = configuration("cuda:0", False, halves=True)
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "net.pt2"), inductor_configs=chosen
    )
    run = torch._inductor.aoti_load_package(path)
    for batch in (1, 2, 5):
        given = inputs(batch, place)
        wanted = exact(layer.to(place), *given)
        found = run(*given)
        error = (found.double() - wanted).norm() / wanted.norm()
        assert float(error) <= 1e-2


def exact(layer: Layer, x: Tensor, context: Tensor) -> Tensor:
    """The layer in float64, of inputs and weights that are rounded to bfloat16."""
    weights = [value.double() for value in (layer.conv.weight, layer.conv.bias)]
    h = functional.conv2d(x.to(BF16).double(), *weights, padding=1)
    h = of_float64(h, 8, layer.norm.weight, layer.norm.bias)
    h = h * torch.sigmoid(h)
    rows = h.flatten(2).transpose(1, 2).unflatten(-1, (2, 32)).transpose(1, 2)
    parts = context.to(BF16).double().chunk(2, -1)
    keys, values = (part.unflatten(-1, (2, 32)).transpose(1, 2) for part in parts)
    y = torch.softmax(rows @ keys.mT / 32**0.5, -1) @ values + torch.softmax(rows @ rows.mT * 0.2, -1) @ rows
    return y.transpose(1, 2).flatten(2)
