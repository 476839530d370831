"""Prompts to embeddings: the pack's tokenizer and text encoder, run once per different prompt."""

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

_KEPT = 64  # prompts whose embeddings are remembered


class TextEncoder:
    """Safe to share between threads."""

    def __init__(self, network: Network, tokenizer_file: Path) -> None:
        """`tokenizer_file` is a tokenizer.json that cuts and pads to the length the network wants."""
        self._network = network
        self._tokenizer = _open_tokenizer(tokenizer_file)
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, prompt: str) -> NDArray[np.float32]:
        """Embeddings (1, T, D); longer prompts are cut at the tokenizer's length."""
        with self._lock:
            if prompt in self._known:
                self._known.move_to_end(prompt)
                return self._known[prompt]
        ids = np.array([self._tokenizer.encode(prompt).ids], np.int64)
        embedding: NDArray[np.float32] = self._network.run({"input_ids": ids})["last_hidden_state"]
        with self._lock:
            self._known[prompt] = embedding
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return embedding


def _open_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise PackError(f"{path} is not a tokenizer: {error}") from error
