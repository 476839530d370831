"""Configs to modules without memory, and the check of a checkpoint's keys and shapes against a module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import CheckpointError, listed
from .lazy import Component
from .mistakes import name_content

_LARGEST = 2**20  # of any whole number in a config
_MOST_LAYERS = 64
_LAYERS = ("layers_per_block", "num_hidden_layers", "transformer_layers_per_block", "num_attention_heads")


def empty_module(config: Mapping[str, Any]) -> nn.Module:
    """The module that a config describes, in eval mode on the device "meta": shapes and no values.

    Raises CheckpointError: the class is unknown, or the config does not describe one.
    """
    _sane(config)
    name = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
    try:
        with torch.device("meta"):
            module = _build(str(name), config)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the class makes of a wrong config
        raise CheckpointError(f"the config does not describe a {name}: {error}") from None
    return module.eval()


def _build(name: str, config: Mapping[str, Any]) -> nn.Module:
    import diffusers
    import transformers

    plain: dict[str, Any] = {
        key: list(value) if isinstance(value, tuple) else value for key, value in config.items()
    }
    if name in ("UNet2DConditionModel", "ControlNetModel", "AutoencoderKL"):
        module: nn.Module = getattr(diffusers, name).from_config(plain)
        return module
    if name in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        text: nn.Module = getattr(transformers, name)(transformers.CLIPTextConfig(**plain))
        return text
    raise CheckpointError(
        f"the network's class is {name[:80]}; known are UNet2DConditionModel, ControlNetModel, "
        "AutoencoderKL, CLIPTextModel and CLIPTextModelWithProjection"
    )


def _sane(config: Mapping[str, Any]) -> None:
    """Refuses numbers that would build a module without end."""
    for key, value in config.items():
        parts = value if isinstance(value, list | tuple) else [value]
        limit = _MOST_LAYERS if key in _LAYERS else _LARGEST
        if len(parts) > _MOST_LAYERS or any(isinstance(n, int) and not 0 <= n <= limit for n in flat(parts)):
            raise CheckpointError(
                f"the config's {ascii(key)[:60]} is {str(value)[:80]}, which cannot be right"
            )


def flat(parts: Iterable[Any]) -> Iterable[Any]:
    for part in parts:
        if isinstance(part, list | tuple):
            yield from flat(part)
        else:
            yield part


def check(component: Component, module: nn.Module) -> None:
    """Compares keys and shapes of the weights with the module's state dict, in both directions.

    Raises CheckpointError: lists the missing, the unexpected and the wrongly shaped, and the likely mistake.
    """
    infos = component.weights.infos()
    where = str(component.files[0]) if component.files else "the weights"
    compare(
        {key: info.shape for key, info in infos.items()},
        {key: tuple(value.shape) for key, value in module.state_dict().items()},
        type(module).__name__,
        where,
    )


def compare(
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    what: str,
    where: str | Path,
    unexpected: Iterable[str] = (),
    content: Iterable[str] | None = None,
) -> None:
    """Raises CheckpointError unless `found` has exactly the keys and shapes of `wanted`.

    unexpected: further names that should not be there. content: all names in the file, to name what it is.
    """
    missing = wanted.keys() - found.keys()
    extra = {*(found.keys() - wanted.keys()), *unexpected}
    wrong = [
        f"{key} is {list(found[key])}, needed {list(wanted[key])}"
        for key in found.keys() & wanted.keys()
        if tuple(found[key]) != tuple(wanted[key])
    ]
    parts = [
        f"{len(missing)} of {len(wanted)} keys are missing: {listed(missing)}" if missing else "",
        f"{len(extra)} keys are unexpected: {listed(extra)}" if extra else "",
        f"{len(wrong)} shapes are wrong: {listed(wrong)}" if wrong else "",
    ]
    if any(parts):
        kind = name_content(content if content is not None else found)
        hint = f". It looks like {kind}" if kind and 2 * len(missing) > len(wanted) else ""
        raise CheckpointError(f"{where}: does not fit a {what}: {'; '.join(p for p in parts if p)}{hint}")
