"""The kernels of a program that are chosen by trying them on the device."""

from __future__ import annotations

from collections.abc import Iterator

from torch.export import ExportedProgram

from .attention import choose_attention
from .convolution import choose_convolutions


def choose_kernels(program: ExportedProgram, device: str) -> Iterator[str]:
    """Changes a program in half precision to what is fastest on a GPU; says what was chosen, line by line."""
    taken, total = choose_attention(program, device)
    if total:
        yield f"{taken} of {total} attentions by cuDNN"
    taken, total = choose_convolutions(program, device)
    if total:
        yield f"{taken} of {total} convolutions as products of matrices"
