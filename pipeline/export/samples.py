"""Texts on which an exported tokenizer and model are compared with ours."""

from __future__ import annotations

import random

import numpy as np

from pipeline import run
from pipeline.data.tokenizer import Ids, Tokenizer, UnknownTextError
from pipeline.errors import UserError
from pipeline.training.checkpoint import Loaded

STRETCH = 24  # tokens per text
# what tokenizers disagree on: white space of all kinds, line ends, combining marks, text that spells a special type
AWKWARD = [
    "",
    " ",
    "\n",
    "  two  spaces ",
    "a\r\nb\rc",
    "tab\there\x0b\x0c\x1c\x1f\x85",
    "no\u00a0break\u2003wide\u3000",
    "e\u0301 é ﬁ ½ ²",
    "东京 नमस्ते 😀👍🏽",
    "<unk> <eos> <s> </s> [UNK]",
    "it's they'll 'don't' 3.14",
    "\x00 null",
    "▁mark ▁▁",
]


def sample_texts(loaded: Loaded, num_texts: int, *, seed: int = 0) -> list[str]:
    """Awkward texts, stretches of the training corpus if it is still there, and random types."""
    generator = random.Random(seed)
    tokenizer = loaded.tokenizer
    stretches = _of_corpus(loaded, num_texts // 2, generator)
    made = [_of_types(tokenizer, generator) for _ in range(num_texts - len(stretches) - len(AWKWARD))]
    return [_readable(tokenizer, text) for text in (*AWKWARD, *stretches, *made)]


def _readable(tokenizer: Tokenizer, text: str) -> str:
    """Return ``text``, without what ``tokenizer`` has no type for if it has none for the unknown either."""
    try:
        tokenizer.encode(tokenizer.normalized(text))
    except UnknownTextError:
        return tokenizer.known_of(text)
    return text


def checked_tokens(loaded: Loaded, num_tokens: int = 512) -> Ids:
    """(num_tokens,) ids on which the exported model is compared with ours."""
    tokenizer = loaded.tokenizer
    ids, _ = tokenizer.encode_documents(sample_texts(loaded, num_tokens))
    return np.concatenate([tokenizer.start_ids, ids])[:num_tokens].astype(np.int64)


def _of_corpus(loaded: Loaded, num_texts: int, generator: random.Random) -> list[str]:
    try:
        tokens = run.corpus_of(loaded).splits["train"]
    except UserError:
        return []
    last = max(1, len(tokens) - STRETCH)
    starts = np.array([generator.randrange(last) for _ in range(num_texts)])
    return [loaded.tokenizer.decode(_known(loaded.tokenizer, row)) for row in tokens.rows(starts, min(STRETCH, last))]


def _of_types(tokenizer: Tokenizer, generator: random.Random) -> str:
    types = [generator.randrange(tokenizer.vocab_size) for _ in range(generator.randint(1, STRETCH // 2))]
    pieces = [tokenizer.decode(_known(tokenizer, np.array([i]))) for i in types]
    return generator.choice(["", " ", "\n"]).join(pieces)


def _known(tokenizer: Tokenizer, ids: Ids) -> Ids:
    """``ids`` without ``<unk>``, which stands for no text."""
    return ids if tokenizer.unk_id is None else ids[ids != tokenizer.unk_id]
