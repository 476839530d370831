"""CLIP tokenizers: one that exists becomes a tokenizer.json, or a small one is trained from captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


@dataclass(frozen=True)
class TokenizerExport:
    """What a pack needs of a tokenizer; `text` pads and truncates to max_length by itself."""

    text: str
    max_length: int
    start_token_id: int
    end_token_id: int
    pad_token_id: int


def export_tokenizer(tokenizer: CLIPTokenizer, max_length: int | None = None) -> TokenizerExport:
    """A tokenizer.json whose `encode(text).ids` are CLIP's: start, words, end, padding to `max_length`."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TypeError(f"need a CLIP tokenizer of the `tokenizers` package, got {type(tokenizer).__name__}")
    length = max_length or tokenizer.model_max_length
    copy = Tokenizer.from_str(backend.to_str())
    copy.enable_truncation(length)
    copy.enable_padding(length=length, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    text = json.dumps(json.loads(copy.to_str()), ensure_ascii=False, indent=None, separators=(",", ":"))
    return TokenizerExport(
        text, length, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )


def train_tokenizer(captions: Iterable[str], vocab_size: int = 1024, max_length: int = 24) -> CLIPTokenizer:
    """A CLIP tokenizer with byte-pair merges learned from `captions`.

    As in CLIP the vocabulary is: 256 byte symbols, the same at a word's end, the merges, start, end; so every
    text has ids. Padding repeats the end token. vocab_size (>= 514) is an upper limit: merges stop when
    captions run out.
    """
    symbols = sorted(ByteLevel.alphabet())
    vocab = symbols + [symbol + WORD_END for symbol in symbols]
    if vocab_size < len(vocab) + 2:
        raise ValueError(
            f"vocab_size must be at least {len(vocab) + 2} (all bytes, start, end), got {vocab_size}"
        )
    merges = _learn_merges(list(captions), vocab_size - len(vocab) - 2, len(vocab))
    known = set(vocab)
    for left, right in merges:  # two merges may spell the same token
        if left + right not in known:
            known.add(left + right)
            vocab.append(left + right)
    vocab += [START, END]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocab)},
        merges=merges,
        model_max_length=max_length,
    )


def _learn_merges(captions: list[str], count: int, alphabet: int) -> list[tuple[str, str]]:
    """The first `count` merges over words that are cut and normalised just as CLIP does."""
    rules = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix=WORD_END))
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    trainer = BpeTrainer(
        vocab_size=alphabet + count,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        end_of_word_suffix=WORD_END,
        special_tokens=[AddedToken(START, special=True), AddedToken(END, special=True)],
    )
    learner.train_from_iterator(captions, trainer)
    learned: dict[str, Any] = json.loads(learner.to_str())["model"]
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in learned["merges"]]
    return [(left, right) for left, right in pairs[:count]]
