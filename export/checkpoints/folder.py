"""Networks in folders of diffusers and transformers: config.json and weights, whole or in shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .errors import CheckpointError, listed
from .files import open_tensors
from .lazy import Component, LazyTensor
from .matching import match

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SUFFIXES = (".safetensors", ".bin")
_MOST_JSON = 16 * 2**20
# Attention of the VAE in diffusers before 0.18.
_OLD_ATTENTION = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))


def read_component(folder: Path, classes: Sequence[str], label: str) -> Component:
    """The network in `folder`, whose config must name one of `classes`. Raises CheckpointError."""
    config = read_json(folder / "config.json")
    name = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
    if name not in classes:
        raise CheckpointError(
            f"{folder / 'config.json'}: describes a {str(name)[:80]}; the {label} needs a "
            f"{' or '.join(classes)}"
        )
    tensors, files = _weights(folder)
    return match(tensors, config, plain_names, files, label=label)


def plain_names(key: str) -> tuple[list[str], Callable[[LazyTensor], LazyTensor] | None]:
    """The key itself, and how other versions of diffusers and transformers spell it."""
    names = [key]
    if ".attentions." in key:
        for new, old in _OLD_ATTENTION:
            if f".{new}." in key:
                names.append(key.replace(f".{new}.", f".{old}."))
    if key.startswith("text_model."):
        names.append(key.removeprefix("text_model."))
    elif key.startswith(("embeddings.", "encoder.layers.", "final_layer_norm.")):
        names.append(f"text_model.{key}")
    return names, None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file of at most 16 MiB. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; a folder of diffusers has one")
    try:
        if path.stat().st_size > _MOST_JSON:
            raise CheckpointError(f"{path}: larger than any such file")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: not JSON; was the download whole?") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def _weights(folder: Path) -> tuple[dict[str, LazyTensor], list[Path]]:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for suffix in _SUFFIXES:  # safetensors first
        for stem in _STEMS:
            if f"{stem}{suffix}" in names:
                path = folder / f"{stem}{suffix}"
                return open_tensors(path), [path]
            if f"{stem}{suffix}.index.json" in names:
                return _shards(folder / f"{stem}{suffix}.index.json")
    # Variants such as model.fp16.safetensors, if there is no plain one.
    for suffix in _SUFFIXES:
        variants = [
            n for n in names if n.endswith(suffix) and n.startswith(tuple(f"{stem}." for stem in _STEMS))
        ]
        if len(variants) > 1:
            variants = [n for n in variants if ".fp16." in n] or variants
        if len(variants) == 1:
            return open_tensors(folder / variants[0]), [folder / variants[0]]
        if variants:
            raise CheckpointError(
                f"{folder}: holds {listed(variants)}; keep one of them, or name it {_STEMS[0]}{suffix}"
            )
    indices = [n for n in names if n.endswith(".json") and ".index." in n]
    if len(indices) == 1:
        return _shards(folder / indices[0])
    raise CheckpointError(
        f"{folder}: no weights in it: neither diffusion_pytorch_model.safetensors nor model.safetensors, nor "
        f".bin files of these names; it holds {listed(names) or 'nothing'}"
    )


def _shards(index: Path) -> tuple[dict[str, LazyTensor], list[Path]]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{index}: has no weight_map")
    names = sorted({str(name) for name in table.values()})
    tensors: dict[str, LazyTensor] = {}
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            raise CheckpointError(f"{index}: names the file {ascii(name)[:80]}, which is not a bare name")
        shard = open_tensors(index.parent / name)
        absent = [key for key, file in table.items() if file == name and key not in shard]
        if absent:
            raise CheckpointError(
                f"{index.parent / name}: lacks {listed(absent)}, which {index.name} says it has"
            )
        tensors.update({key: shard[key] for key, file in table.items() if file == name})
    return tensors, [index.parent / name for name in names]
