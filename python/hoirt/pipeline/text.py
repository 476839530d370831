"""Prompts to what the networks read of them: tokenizers, text encoders and context, once per prompt."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt.errors import PackError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from hoirt._core import Network
    from hoirt.pipeline.arrays import Arrays

_KEPT = 16  # prompts that are remembered; at full size one takes ten megabytes


@dataclass(frozen=True, eq=False)
class Prompt:
    """context: keys and values (1, T, K) of every cross-attention. pooled: (1, P), of SDXL packs.

    Both lie where the pipeline runs.
    """

    context: Any
    pooled: Any = None


class TextEncoder:
    """One text encoder, or SDXL's two, and the projection to the context. Safe to share between threads."""

    def __init__(self, encoders: Sequence[tuple[Network, Path]], context: Network, arrays: Arrays) -> None:
        """encoders: each with its tokenizer.json, which cuts and pads to the length the network wants."""
        self._arrays = arrays
        self._encoders = [(network, _open_tokenizer(file)) for network, file in encoders]
        self._context = context
        self._known: OrderedDict[str, Prompt] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, prompt: str) -> Prompt:
        """The encoded prompt; a longer one is cut at the tokenizer's length."""
        with self._lock:
            if prompt in self._known:
                self._known.move_to_end(prompt)
                return self._known[prompt]
        encoded = self._encode(prompt)
        with self._lock:
            # Another thread may have been quicker; equal prompts shall be one object.
            encoded = self._known.setdefault(prompt, encoded)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return encoded

    def _encode(self, prompt: str) -> Prompt:
        states, pooled = [], None
        for network, tokenizer in self._encoders:
            outputs = network.run({"input_ids": np.array([tokenizer.encode(prompt).ids], np.int64)})
            states.append(outputs["last_hidden_state"])
            pooled = outputs.get("pooled", pooled)
        joined = self._arrays.join(states, axis=2)
        return Prompt(self._context.run({"encoder_hidden_states": joined})["context"], pooled)


def _open_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise PackError(f"{path} is not a tokenizer: {error}") from error
