"""Tokenizers read back from the one JSON file that each saves; never a pickle."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.data.tokenizer.base import Tokenizer
from pipeline.data.tokenizer.bpe import BpeTokenizer
from pipeline.data.tokenizer.byte import ByteTokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.data.tokenizer.word import WordTokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (ByteTokenizer, CharTokenizer, WordTokenizer, BpeTokenizer)
}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at ``path``. Raises ``ValueError`` naming a file that is missing or is none."""
    try:
        values = json.loads(Path(path).read_bytes())
        return TOKENIZERS[values.pop("kind")].from_content(values.pop("eos"), values)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such tokenizer file") from None
    except Exception:
        raise ValueError(f"{path}: not a tokenizer that this program saved") from None
