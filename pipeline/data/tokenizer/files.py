"""Tokenizers read back from the one JSON file that each saves; never a pickle."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HuggingFaceTokenizer

from pipeline import storage
from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer.base import Tokenizer
from pipeline.data.tokenizer.bpe import BpeTokenizer
from pipeline.data.tokenizer.byte import ByteTokenizer
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.data.tokenizer.loaded import LoadedTokenizer
from pipeline.data.tokenizer.sentencepiece import SentencePieceTokenizer
from pipeline.data.tokenizer.word import WordTokenizer
from pipeline.errors import UserError

KINDS = (ByteTokenizer, CharTokenizer, WordTokenizer, BpeTokenizer, LoadedTokenizer, SentencePieceTokenizer)
TOKENIZERS: dict[str, type[Tokenizer]] = {kind.kind: kind for kind in KINDS}


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer saved at ``path``. Raises ``UserError`` if the file is missing or is not a tokenizer."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such tokenizer file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with refusing(f"{path}: not a tokenizer that this program saved"):
        found = from_values(json.loads(data))
    found.serialized = data  # not rebuilt: merges take a tenth of a second
    return found


def from_values(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer with the values of a saved file."""
    values = dict(values)
    kind, eos = TOKENIZERS[values.pop("kind")], values.pop("eos")
    if eos not in ("line", "document", "none"):
        raise ValueError("not a place for <eos>")
    return kind.from_content(eos, values)


@contextmanager
def refusing(sentence: str) -> Iterator[None]:
    """Raise ``UserError(sentence)``, with the reason in place of {}, for whatever a broken file causes."""
    try:
        yield
    except BaseException as error:
        # a panic of Hugging Face's Rust code is not an Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(sentence.replace("{}", str(error))) from None


def read_existing(config: TokenizerConfig, *, eos: str) -> Tokenizer:
    """The tokenizer in the file ``tokenizer.path``: one that this program saved, or another's.

    Raises:
        UserError: settings that do not go with a file, or a file that is missing or not a tokenizer.
    """
    path = str(config.path)
    default = TokenizerConfig()
    for name in ("kind", "vocab_size", "min_count", "sample_bytes"):
        if getattr(config, name) != (usual := getattr(default, name)):
            raise UserError(
                f"tokenizer.{name}: the tokenizer of tokenizer.path={path} is used as it is; leave it out "
                f"(tokenizer.{name}={'null' if usual is None else usual} undoes what a file sets)"
            )
    data = read_file(path).removeprefix(codecs.BOM_UTF8)
    try:
        found = parse(data, eos)
    except UserError as error:
        raise UserError(f"tokenizer.path: {path}: {error}") from None
    if config.eos not in ("auto", found.eos):
        raise UserError(f"tokenizer.eos: {path} was made with {found.eos}, not {config.eos}; leave it out")
    return found


def parse(data: bytes, eos: str) -> Tokenizer:
    """The tokenizer in ``data``: one that this program saved, a ``tokenizer.json``, or a SentencePiece model.

    Args:
        eos: where ``<eos>`` is put, unless the tokenizer says so itself.

    Raises:
        UserError: ``data`` is none of these, or damaged; the message does not name the file.
    """
    if not data:
        raise UserError("the file is empty")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict) and values.keys() >= {"kind", "eos"}:
        with refusing("not a tokenizer that this program saved, or a damaged one"):
            return from_values(values)
    if isinstance(values, dict):
        with refusing("not a tokenizer.json of Hugging Face ({})"):
            engine = HuggingFaceTokenizer.from_str(data.decode())
        return LoadedTokenizer(eos, engine)
    try:
        return SentencePieceTokenizer(eos, data)
    except UserError as error:
        raise UserError(f"neither a tokenizer.json of Hugging Face nor ours, and {error}") from None


def read_file(path: str) -> bytes:
    """The contents of the file ``tokenizer.path``."""
    try:
        return storage.read(os.path.expanduser(path))
    except storage.UnreadableError as error:
        raise UserError(f"tokenizer.path: {error}") from None
