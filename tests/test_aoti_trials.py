"""Kernels that are chosen by trying: attention by torch or cuDNN, convolutions by cuDNN or as products."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from export.aoti import attention, convolution
from export.aoti.attention import choose_attention
from export.aoti.convolution import choose_convolutions, matrix, padded, windows
from export.aoti.kernels import choose_kernels
from export.aoti.trials import alike

BF16 = torch.bfloat16
CALLS: list[int] = []


class Attentions(nn.Module):
    """Two attentions of one input, of which the second one has a scale of its own."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        y = functional.scaled_dot_product_attention(q, k, k)
        return y + functional.scaled_dot_product_attention(q, q, q, scale=0.2)


def pair(batch: int, place: str = "cpu") -> tuple[Tensor, Tensor]:
    """Queries and keys as layers make them: (N, heads, L, D) whose heads lie side by side."""
    random = torch.Generator().manual_seed(batch)
    made = (torch.randn(batch, length, 2, 32, generator=random).to(BF16) for length in (40, 7))
    q, k = (value.to(place).transpose(1, 2) for value in made)
    return q, k


def exact(q: Tensor, k: Tensor) -> Tensor:
    q, k = q.double(), k.double()
    return torch.softmax(q @ k.mT / 32**0.5, -1) @ k + torch.softmax(q @ q.mT * 0.2, -1) @ q


def exported(module: nn.Module, *inputs: Tensor) -> torch.export.ExportedProgram:
    """For any batch."""
    free = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        return torch.export.export(
            module.eval(), inputs, dynamic_shapes=tuple({0: free} for _ in inputs), strict=False
        )


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@torch.library.custom_op("hoirt_test::attention", mutates_args=())
def other_kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    sums: bool,
    dropout: float,
    causal: bool,
    debug: bool,
    scale: float | None = None,
) -> list[Tensor]:
    """In the place of cuDNN's, with the arguments of its operator; it has none for a single key."""
    CALLS.append(1)
    if k.shape[2] == 1:
        raise RuntimeError("no valid execution plans built")
    assert bias is None and not (sums or dropout or causal or debug)
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    made = torch.empty_like(q).copy_(torch.softmax(q @ k.mT * factor, -1) @ v)
    return [made, made.new_zeros(1)]


@other_kernel.register_fake
def _(q: Tensor, *more: Any, scale: float | None = None) -> list[Tensor]:
    return [torch.empty_like(q), q.new_zeros(1)]


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An operator that is there without a GPU takes the place of cuDNN's."""
    CALLS.clear()
    monkeypatch.setattr(attention, "_refused", set())
    kernel = torch.ops.hoirt_test.attention.default
    monkeypatch.setattr(attention, "CUDNN", kernel)
    yield kernel


def clock(*milliseconds: float) -> Callable[[Callable[[], Tensor]], float]:
    """Gives these times in turns: of the other kernel, of the usual one."""
    times = itertools.cycle(milliseconds)

    def measure(call: Callable[[], Tensor]) -> float:
        call()
        return next(times)

    return measure


def count(program: torch.export.ExportedProgram, target: Any) -> int:
    return sum(node.target is target for node in program.graph.nodes)


def test_the_faster_kernel_is_taken(other: Any) -> None:
    program = exported(Attentions(), *pair(2))
    # The first attention is worth it; the second one gains less than the clock may be wrong by.
    assert choose_attention(program, "cpu", clock(1.0, 2.0, 1.98, 2.0)) == (1, 2)
    assert (count(program, other), count(program, attention.USUAL)) == (1, 1)
    for batch in (1, 3):
        assert error(program.module()(*pair(batch)), exact(*pair(batch))) <= 1e-2


def test_equal_attentions_are_measured_once(other: Any) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = functional.scaled_dot_product_attention(x, x, x)
            return functional.scaled_dot_product_attention(y, y, y)

    program = torch.export.export(Twice(), (torch.randn(1, 2, 8, 16).to(BF16),), strict=False)
    measured = []

    def measure(call: Callable[[], Tensor]) -> float:
        measured.append(call())
        return float(len(measured))

    assert choose_attention(program, "cpu", measure) == (2, 2) and len(measured) == 2


@pytest.mark.parametrize(
    "what", ["wrong values", "not finite", "another layout", "no kernel", "float32", "mask"]
)
def test_what_cannot_be_given_away(what: str, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class One(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            mask = torch.zeros(8, k.shape[2], dtype=q.dtype) if what == "mask" else None
            return functional.scaled_dot_product_attention(q, k, k, attn_mask=mask)

    usual = attention._by_cudnn
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "wrong values": lambda x: x * 1.1,
        "not finite": lambda x: x * torch.nan,
        "another layout": lambda x: x.mT.contiguous().mT if x.device.type == "meta" else x,
    }
    if what in changes:
        monkeypatch.setattr(attention, "_by_cudnn", lambda *given: changes[what](usual(*given)))
    keys = 1 if what == "no kernel" else 8
    kind = torch.float32 if what == "float32" else BF16
    given = (torch.randn(1, 2, 8, 16).to(kind), torch.randn(1, 2, keys, 16).to(kind))
    program = torch.export.export(One(), given, strict=False)
    assert choose_attention(program, "cpu", clock(1.0, 2.0)) == (0, 1)
    assert count(program, attention.USUAL) == 1
    assert bool(CALLS) == (what not in ("float32", "mask"))


def test_cudnn_is_asked_once_for_what_it_refuses(other: Any) -> None:
    """Whatever the scale, in any program: the second time torch ends the process."""

    class Scaled(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            y = functional.scaled_dot_product_attention(q, k, k)
            return y + functional.scaled_dot_product_attention(q, k, k, scale=0.2)

    given = torch.randn(1, 2, 8, 16).to(BF16), torch.randn(1, 2, 1, 16).to(BF16)
    for _ in range(2):
        program = torch.export.export(Scaled(), given, strict=False)
        assert choose_attention(program, "cpu", clock(1.0, 2.0)) == (0, 2)
    assert len(CALLS) == 1


SIZES = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 20), st.sampled_from([1, 2]), st.integers(0, 2**32 - 1))
def test_windows_times_matrix_is_the_convolution(
    size: tuple[int, ...], out: int, stride: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=random, dtype=torch.float64)
    weight = torch.randn(out, size[1], 3, 3, generator=random, dtype=torch.float64)
    found = windows(padded(x), stride) @ matrix(weight)
    wanted = functional.conv2d(x, weight, None, stride, 1)
    torch.testing.assert_close(found, wanted.permute(0, 2, 3, 1).flatten(0, 2))


class Convolutions(nn.Module):
    """Three of 3 x 3: with a bias, with a stride and none, and with another border; and one of 1 x 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 24, 3, padding=1)
        self.second = nn.Conv2d(24, 16, 3, stride=2, padding=1, bias=False)
        self.third = nn.Conv2d(16, 8, 3)
        self.last = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.third(functional.silu(self.second(self.first(x)))))
        return y


def picture(batch: int, place: str = "cpu") -> Tensor:
    random = torch.Generator().manual_seed(batch)
    made = torch.randn(batch, 16, 9, 14, generator=random).to(BF16)
    return made.to(place, memory_format=torch.channels_last)


@pytest.fixture
def convolutions() -> Convolutions:
    torch.manual_seed(0)
    return Convolutions().to(BF16).to(memory_format=torch.channels_last).requires_grad_(False)


def test_the_faster_convolution_is_taken(convolutions: Convolutions) -> None:
    """Only those that can be products are tried, and only those that gain are."""
    program = exported(convolutions, picture(2))
    assert choose_convolutions(program, "cpu", clock(1.0, 2.0, 2.0, 2.0)) == (1, 4)
    program = exported(convolutions, picture(2))
    assert choose_convolutions(program, "cpu", clock(1.0, 2.0)) == (2, 4)
    assert count(program, convolution.USUAL) == 2
    for batch in (1, 2, 5):
        found, usual = program.module()(picture(batch)), convolutions(picture(batch))
        wanted = Convolutions().double().requires_grad_(False)
        wanted.load_state_dict({name: value.double() for name, value in convolutions.state_dict().items()})
        assert found.stride() == usual.stride()
        assert error(found, wanted(picture(batch).double())) <= 1e-2


def test_equal_convolutions_are_measured_once_and_with_cold_weights() -> None:
    same = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1))
    same.to(BF16).to(memory_format=torch.channels_last).requires_grad_(False)
    results = []

    def measure(call: Callable[[], Tensor]) -> float:
        results.append([call() for _ in range(3)])
        return float(len(results))

    assert choose_convolutions(exported(same, picture(2)), "cpu", measure) == (2, 2)
    (first, second, third), _ = results
    assert not torch.equal(first, second) and not torch.equal(second, third)  # other weights each time


@pytest.mark.parametrize(
    "what", ["many pixels", "channels first", "float32", "groups", "dilation", "wrong values"]
)
def test_what_stays_a_convolution(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"groups": {"groups": 2}, "dilation": {"dilation": 2}}.get(what, {})
    kind = torch.float32 if what == "float32" else BF16
    layer = nn.Conv2d(16, 16, 3, padding=1, **options).to(kind).requires_grad_(False)
    layer = layer if what == "channels first" else layer.to(memory_format=torch.channels_last)
    if what == "many pixels":
        monkeypatch.setattr(convolution, "FEW", 2 * 9 * 14 - 1)
    if what == "wrong values":
        monkeypatch.setattr(convolution, "windows", lambda x, stride: 1.1 * windows(x, stride))
    program = exported(layer, picture(2).to(kind))
    assert choose_convolutions(program, "cpu", clock(1.0, 2.0)) == (0, 1)
    assert count(program, convolution.USUAL) == 1


def test_values_alike() -> None:
    one = torch.tensor([1.0, -3.0])
    assert alike(one * 1.01, one) and not alike(one * 1.1, one)
    assert not alike(one * torch.nan, one) and not alike(one, one * torch.inf)


def test_what_is_chosen_is_said(
    other: Any, convolutions: Convolutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.aoti.trials.replayed", clock(1.0, 2.0))
    assert list(choose_kernels(exported(Attentions(), *pair(2)), "cpu")) == ["2 of 2 attentions by cuDNN"]
    assert list(choose_kernels(exported(convolutions, picture(2)), "cpu")) == [
        "2 of 4 convolutions as products of matrices"
    ]


def test_choices_on_a_gpu(convolutions: Convolutions) -> None:
    """Whatever is chosen there computes the same."""
    from device_tools import device

    device("cuda:0")
    place = "cuda:0"
    program = exported(Attentions(), *pair(2, place))
    taken, total = choose_attention(program, place)
    assert 0 <= taken <= total == 2 and count(program, attention.CUDNN) == taken
    assert error(program.module()(*pair(3, place)), exact(*pair(3, place))) <= 1e-2
    usual = convolutions.to(place)
    program = exported(usual, picture(2, place))
    taken, total = choose_convolutions(program, place)
    assert 0 <= taken <= 2 and count(program, convolution.USUAL) == total - taken
    assert error(program.module()(picture(3, place)), usual(picture(3, place)).double()) <= 1e-2
