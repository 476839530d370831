"""Compiles one graph into an AOTInductor package."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from hoirt.errors import BackendError
from torch import Tensor

from .graph import Graph, Port
from .kernels import choose_kernels
from .module import OnnxModule
from .settings import configuration
from .shapes import LARGEST_BATCH

EXAMPLE_BATCH = 2  # of a free batch, and of its halves; torch takes 1 for a constant


def compile_graph(
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    out: Path,
    *,
    twins: Collection[str] = (),
    device: str = "cpu",
    precision: str = "fp32",
    max_autotune: bool = False,
    trials: bool = True,
    channels_last: bool | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> None:
    """Writes the package `out` (.pt2), which takes the graph's inputs in order and gives its outputs.

    Args:
        graph: after rewrite(). shapes: of every input; -1 for a batch that is free. twins: the inputs in
            which that is a number of its own, see twins.py.
        device: "cpu", or "cuda:" and an index: where it is compiled and will run.
        precision: as in OnnxModule. max_autotune: times the candidates for every kernel on the device.
        trials: chooses kernels by trying them there, in half precision on a GPU.
        channels_last: the layout of convolutions; None: on a GPU. say: is told what was chosen.

    Raises:
        PackError: the graph has operators that cannot be compiled.
        BackendError: torch, or the compiler that it calls, failed.
    """
    last = device != "cpu" if channels_last is None else channels_last
    module = OnnxModule(graph, precision, device=device, channels_last=last).eval()
    examples = tuple(_example(port, shapes[port.name], device, last) for port in graph.inputs)
    batch, half = (torch.export.Dim(name, min=1, max=LARGEST_BATCH) for name in ("batch", "half"))
    dynamic = tuple(
        {
            axis: half if port.name in twins else batch
            for axis, extent in enumerate(shapes[port.name])
            if extent == -1
        }
        for port in graph.inputs
    )
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, examples, dynamic_shapes=(dynamic,), strict=False)
            if trials and device != "cpu" and precision != "fp32":
                for choice in choose_kernels(program, device):
                    say(f"  {choice}")
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(out),
                inductor_configs=configuration(device, max_autotune, halves=precision != "fp32"),
            )
        except Exception as error:  # of torch's many layers and of g++, which have no base in common
            raise BackendError(
                f"torch {torch.__version__} cannot compile the graph: {_short(error)}"
            ) from error


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder beside the final place of what is written in it, which goes whatever happens."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Path(tempfile.mkdtemp(prefix=".compiling-", dir=folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _example(port: Port, shape: Sequence[int], device: str, channels_last: bool) -> Tensor:
    extents = [EXAMPLE_BATCH if extent == -1 else extent for extent in shape]
    example = torch.zeros(extents, dtype=port.dtype, device=device)
    if port.inner and channels_last and example.ndim == 4:
        return example.contiguous(memory_format=torch.channels_last)
    return example


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks to its own developers."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _short(error: Exception) -> str:
    """The first lines: torch adds stacks and advice, the C++ compiler its command."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {os.linesep.join(lines[:6])[:1500]}"
