"""CLIP's tokenizer from a folder; nothing is ever downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from .errors import CheckpointError, listed
from .folder import read_json

_MOST = 64 * 2**20


def read_tokenizer(folder: Path, pad_token: str | None = None) -> CLIPTokenizer:
    """The CLIP tokenizer in `folder`: tokenizer.json, or vocab.json with merges.txt. Raises CheckpointError.

    pad_token: instead of the folder's, where it is one for another text encoder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; it should hold CLIP's vocab.json and merges.txt")
    names = sorted(path.name for path in folder.iterdir())
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= set(names):
        raise CheckpointError(
            f"{folder}: not a tokenizer: needed are vocab.json and merges.txt, or tokenizer.json; it holds "
            f"{listed(names) or 'nothing'}"
        )
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        if name in names and (folder / name).stat().st_size > _MOST:
            raise CheckpointError(f"{folder / name}: larger than any tokenizer")
    if "vocab.json" in names:
        read_json(folder / "vocab.json")  # a plain error for a broken download
    extra: dict[str, Any] = {} if pad_token is None else {"pad_token": pad_token}
    try:
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, **extra)
        ids = tokenizer("a hand")["input_ids"]
    except Exception as error:  # of json, tokenizers and transformers
        raise CheckpointError(f"{folder}: not a CLIP tokenizer: {str(error)[:300]}") from None
    if len(ids) < 3 or ids[0] != tokenizer.bos_token_id or ids[-1] != tokenizer.eos_token_id:
        raise CheckpointError(f"{folder}: not a CLIP tokenizer: a text does not begin and end with its marks")
    return tokenizer


def for_single_file(given: Path | None, count: int) -> list[CLIPTokenizer]:
    """One or two tokenizers for a checkpoint in one file, which has none.

    `given` is a tokenizer's folder, or one with tokenizer/ (and tokenizer_2/) in it. SDXL's second differs
    from the first in its padding alone, by "!" (id 0), so one vocabulary does for both.
    """
    if given is None:
        raise CheckpointError(
            "a checkpoint in one file has no tokenizer: give the folder with CLIP's vocab.json and "
            "merges.txt (--tokenizer DIR); the folder tokenizer/ of any Stable Diffusion model in the layout "
            "of diffusers has them, and the repository openai/clip-vit-large-patch14"
        )
    given = Path(given)
    first = given / "tokenizer" if (given / "tokenizer").is_dir() else given
    tokenizers = [read_tokenizer(first)]
    if count == 2:
        second = given / "tokenizer_2"
        tokenizers.append(read_tokenizer(second) if second.is_dir() else read_tokenizer(first, pad_token="!"))
    return tokenizers
