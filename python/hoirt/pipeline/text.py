"""Prompts to what the step's cross-attentions read: tokenizer, text encoder and context, once per prompt."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import PackError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from hoirt._core import Network

_KEPT = 16  # prompts that are remembered; at full size one takes ten megabytes


class TextEncoder:
    """Safe to share between threads."""

    def __init__(self, text_encoder: Network, context: Network, tokenizer_file: Path) -> None:
        """`tokenizer_file` is a tokenizer.json that cuts and pads to the length the networks want."""
        self._text_encoder = text_encoder
        self._context = context
        self._tokenizer = _open_tokenizer(tokenizer_file)
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, prompt: str) -> NDArray[np.float32]:
        """Keys and values (1, T, K); longer prompts are cut at the tokenizer's length."""
        with self._lock:
            if prompt in self._known:
                self._known.move_to_end(prompt)
                return self._known[prompt]
        ids = np.array([self._tokenizer.encode(prompt).ids], np.int64)
        states = self._text_encoder.run({"input_ids": ids})["last_hidden_state"]
        context: NDArray[np.float32] = self._context.run({"encoder_hidden_states": states})["context"]
        with self._lock:
            self._known[prompt] = context
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return context


def _open_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise PackError(f"{path} is not a tokenizer: {error}") from error
