"""Tokenizers read back from the one JSON file that each saves; never a pickle."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer.base import Tokenizer
from pipeline.data.tokenizer.bpe import BpeTokenizer
from pipeline.data.tokenizer.byte import ByteTokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.data.tokenizer.loaded import LoadedTokenizer, parse_tokenizer
from pipeline.data.tokenizer.word import WordTokenizer
from pipeline.errors import UserError

TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.kind: kind for kind in (ByteTokenizer, CharTokenizer, WordTokenizer, BpeTokenizer, LoadedTokenizer)
}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at ``path``. Raises ``UserError`` naming a file that is missing or is none."""
    try:
        data = Path(path).read_bytes()
        found = from_values(json.loads(data))
        found.serialized = data  # not made again: merges take a tenth of a second
        return found
    except FileNotFoundError:
        raise UserError(f"{path}: no such tokenizer file") from None
    except Exception:
        raise UserError(f"{path}: not a tokenizer that this program saved") from None


def from_values(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer of the values in a saved file."""
    values = dict(values)
    return TOKENIZERS[values.pop("kind")].from_content(values.pop("eos"), values)


def read_existing(config: TokenizerConfig, *, eos: str) -> Tokenizer:
    """The tokenizer in the file ``tokenizer.path``: one that this program saved, or another's.

    Raises:
        UserError: settings that do not go with a file, a file that is missing or is no tokenizer.
    """
    path = str(config.path)
    default = TokenizerConfig()
    for name in ("kind", "vocab_size", "min_count", "sample_bytes"):
        if getattr(config, name) != getattr(default, name):
            raise UserError(f"tokenizer.{name}: the tokenizer of tokenizer.path={path} is as it is; leave it out")
    data = read_file(path).removeprefix(codecs.BOM_UTF8)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict) and values.keys() >= {"kind", "eos"}:
        found = from_values(values)
        if config.eos not in ("auto", found.eos):
            raise UserError(f"tokenizer.eos: {path} was made with {found.eos}, not {config.eos}; leave it out")
        return found
    try:
        return parse_tokenizer(data, eos)
    except UserError as error:
        raise UserError(f"tokenizer.path: {path}: {error}") from None


def read_file(path: str) -> bytes:
    """What is in the file ``tokenizer.path``."""
    try:
        return storage.read(path)
    except storage.UnreadableError as error:
        raise UserError(f"tokenizer.path: {error}") from None
