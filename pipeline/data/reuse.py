"""Whether the corpus that a directory holds is the one that is wanted: its settings and its texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config import Config, data_fingerprint
from pipeline.data.corpus.pieces import Piece
from pipeline.data.tokenizer.files import read_file
from pipeline.errors import UserError

Splits = Mapping[str, Sequence[Piece]]


def settings_of(config: Config, splits: Splits) -> dict[str, Any]:
    """What the bytes of a prepared corpus depend on: settings, and the names and sizes of the texts."""
    sources = [[split, *piece.identity] for split, pieces in splits.items() for piece in pieces]
    path = config.tokenizer.path
    file = {} if path is None else {"file": hashlib.sha256(read_file(path)).hexdigest()}
    return {
        "fingerprint": data_fingerprint(config),
        "corpus": config.corpus.model_dump(mode="json"),
        "tokenizer": {**config.tokenizer.model_dump(mode="json"), **file},
        "shard_tokens": config.data.shard_tokens,
        "sources": hashlib.sha256(json.dumps(sources).encode()).hexdigest(),
    }


def check_same(directory: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to mix two corpora in a directory.

    Raises:
        UserError: naming the settings that differ, or that the texts have changed.
    """
    differing = [
        f"{section}.{name} was {found[section].get(name)!r}, is {value!r}"
        for section in ("corpus", "tokenizer")
        for name, value in wanted[section].items()
        if found[section].get(name) != value
    ]
    if found["shard_tokens"] != wanted["shard_tokens"]:
        differing.append(f"data.shard_tokens was {found['shard_tokens']}, is {wanted['shard_tokens']}")
    if not differing and found["sources"] != wanted["sources"]:
        differing.append("the texts are not the same files or sizes any more")
    if differing:
        raise UserError(
            f"data.directory: {directory} holds a corpus prepared differently ({'; '.join(differing)}); "
            "remove it or name another directory"
        )
