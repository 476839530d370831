"""The published weights of MeshGraphormer: found by name, checked, read one by one; dead ones dropped."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints import CheckpointError, LazyTensor, Weights, open_tensors
from ..checkpoints.modules import compare

# In the file, but without influence on the result: BERT's embeddings of words and its poolers, a convolution
# that the graph block does not call, HRNet's classifier, the counters of batch normalisation.
_DEAD = re.compile(
    r"trans_encoder\.\d+\.bert\.(embeddings|pooler)\."
    r"|trans_encoder\.\d+\.bert\.encoder\.layer\.\d+\.graph_conv\.skip_conv\."
    r"|backbone\.classifier\."
    r"|.*\.num_batches_tracked$"
)
_VERTICES = 778


def live(module: nn.Module) -> dict[str, Tensor]:
    """The entries of the module's state dict that a result depends on."""
    return {key: tensor for key, tensor in module.state_dict().items() if not _DEAD.match(key)}


def find_weights(path: Path, module: nn.Module) -> Weights:
    """The weights of `module` in a file of torch.save or safetensors, by the keys of its state dict.

    Names, shapes and dtypes are compared with the module now, which reads nothing but the file's table of
    contents; `read` gives a tensor as float32. Dead weights of the published file are accepted and dropped.

    Raises:
        CheckpointError: not such a file, or it would have to run code; keys missing or unexpected (they are
            listed), a wrong shape, not floating point numbers. From `read`: NaN or infinity.
    """
    tensors = open_tensors(path)
    found = {key: tensor for key, tensor in tensors.items() if not _DEAD.match(key)}
    upsampling = tensors.get("upsampling.weight")
    if upsampling is not None and upsampling.shape[:1] != (_VERTICES,):
        raise CheckpointError(
            f"{path}: these are MeshGraphormer's weights for bodies; needed are those for hands"
        )
    compare(
        {key: tensor.shape for key, tensor in found.items()},
        {key: tuple(tensor.shape) for key, tensor in live(module).items()},
        "MeshGraphormer for hands",
        path,
        content=tensors,
    )
    for key, tensor in found.items():
        if not tensor.dtype.is_floating_point:
            raise CheckpointError(f"{path}: {key} holds {tensor.dtype}, needed are floating point numbers")
    return Weights({key: _checked(path, key, tensor) for key, tensor in found.items()})


def load_weights(module: nn.Module, weights: Weights) -> None:
    """Gives `module` its weights, without a gradient."""
    module.load_state_dict({key: weights.read(key) for key in weights.infos()}, strict=False, assign=True)
    module.requires_grad_(False)


def _checked(path: Path, key: str, tensor: LazyTensor) -> LazyTensor:
    def read() -> Tensor:
        values = tensor.read().to(torch.float32)
        if not math.isfinite(float(values.sum(dtype=torch.float64))):  # cheaper than a mask of what is finite
            raise CheckpointError(f"{path}: {key} holds NaN or infinity")
        return values

    return LazyTensor(tensor.shape, torch.float32, read)
