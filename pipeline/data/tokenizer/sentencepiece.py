"""SentencePiece models (Kudo & Richardson 2018) as tokenizers of Hugging Face: Unigram and BPE, with byte fallback.

The file is a protocol buffer, ``ModelProto`` of ``sentencepiece_model.proto``; read here field by field, for the
package itself is not needed. The ids are SentencePiece's, with three rare exceptions: Unigram where two ways to cut a
text are as probable, a combining mark after a space, and a text that spells out a byte (``<0x41>``).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from pipeline.errors import UserError

SPACE_MARK = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
# before the name of a type that no text may give: not a character
NO_TEXT = "\ufdd0"


@dataclass(frozen=True)
class Piece:
    """A type of the model, its ``score`` (log-probability, or minus the rank of its merge) and what ``kind`` it is."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """What of a model file matters for encoding."""

    pieces: list[Piece]
    model_type: int
    byte_fallback: bool
    character_map: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool
    whitespace_as_suffix: bool

    @classmethod
    def parse(cls, data: bytes) -> SentencePieceModel:
        """Raises ``UserError`` for data that are not such a model."""
        model = _fields(data)
        if not model.keys() >= {1, 2, 3}:
            raise UserError("a part of it is missing")
        trainer, normalizer = (_fields(model[number][-1]) for number in (2, 3))
        pieces = []
        for item in map(_fields, model[1]):
            (score,) = struct.unpack("<f", item.get(2, [bytes(4)])[-1])
            pieces.append(Piece(item[1][-1].decode(), score, item.get(3, [NORMAL])[-1]))
        if sum(piece.kind == UNKNOWN for piece in pieces) != 1:
            raise UserError("it has no type for what is unknown")
        return cls(
            pieces,
            model_type=trainer.get(3, [UNIGRAM])[-1],
            byte_fallback=bool(trainer.get(35, [0])[-1]),
            whitespace_as_suffix=bool(trainer.get(24, [0])[-1]),
            character_map=normalizer.get(2, [b""])[-1],
            add_dummy_prefix=bool(normalizer.get(3, [1])[-1]),
            remove_extra_whitespaces=bool(normalizer.get(4, [1])[-1]),
            escape_whitespaces=bool(normalizer.get(5, [1])[-1]),
        )


def convert(data: bytes) -> Tokenizer:
    """The tokenizer of Hugging Face that gives the ids of the model in ``data``.

    Raises:
        UserError: it is not such a model, or one of words, of characters, or with white space after words.
    """
    try:
        model = SentencePieceModel.parse(data)
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, struct.error) as error:
        raise UserError(f"not a SentencePiece model ({error})") from None
    if model.model_type not in (UNIGRAM, BPE) or model.whitespace_as_suffix or not model.escape_whitespaces:
        raise UserError("SentencePiece models of words, of characters or with white space after words are not known")
    if any(" " in piece.text for piece in model.pieces):
        raise UserError("it has a type with a space in it")
    engine = Tokenizer(_unigram(model) if model.model_type == UNIGRAM else _bpe(model))
    engine.normalizer = _normalizer(model)
    if not any(SPACE_MARK in piece.text[1:] for piece in model.pieces if piece.kind in (NORMAL, USER_DEFINED)):
        engine.pre_tokenizer = pre_tokenizers.Split(SPACE_MARK, "merged_with_next")
    engine.decoder = decoders.Sequence(
        [decoders.Replace(NO_TEXT, ""), decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
        + [decoders.Strip(" ", 1, 0)] * model.add_dummy_prefix
    )
    own = [piece.text for piece in model.pieces if piece.kind == USER_DEFINED]
    engine.add_tokens([AddedToken(text, normalized=True) for text in own])
    return engine


def _names(model: SentencePieceModel) -> list[str]:
    """The types as they come in texts, apart from those that do not."""
    return [NO_TEXT + piece.text if piece.kind in (CONTROL, UNUSED) else piece.text for piece in model.pieces]


def _unigram(model: SentencePieceModel) -> models.Unigram:
    unknown = next(i for i, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)
    names = _names(model)
    names[unknown] = NO_TEXT + names[unknown]
    scores = [piece.score for piece in model.pieces]
    return models.Unigram(list(zip(names, scores, strict=True)), unknown, byte_fallback=model.byte_fallback)


def _bpe(model: SentencePieceModel) -> models.BPE:
    """Two neighbours merge where the vocabulary has them as one, the one of the highest score first."""
    ids = {name: i for i, name in enumerate(_names(model))}
    parts = {piece.text for piece in model.pieces if piece.kind in (NORMAL, USER_DEFINED)}
    merges: list[tuple[float, int, int, str, str]] = []
    for piece in model.pieces:
        for cut in range(1, len(piece.text) if piece.kind == NORMAL else 0):
            left, right = piece.text[:cut], piece.text[cut:]
            if left in parts and right in parts:
                merges.append((-piece.score, ids[left], ids[right], left, right))
    unknown = next(piece.text for piece in model.pieces if piece.kind == UNKNOWN)
    pairs = [(left, right) for *_, left, right in sorted(merges)]
    return models.BPE(ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)


def _normalizer(model: SentencePieceModel) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if model.character_map:
        steps.append(normalizers.Precompiled(model.character_map))
    if model.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(r"\A +| +\z| +(?= )"), ""))
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE_MARK)])


def _fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message of a protocol buffer: number → values (integers, or bytes)."""
    found: dict[int, list[Any]] = defaultdict(list)
    values = iter(data)
    for key in _numbers(values):
        number, kind = key >> 3, key & 7
        if kind == 0:
            found[number].append(next(_numbers(values), 0))
            continue
        length = {1: 8, 5: 4}.get(kind) or (next(_numbers(values), -1) if kind == 2 else -1)
        content = bytes(value for _, value in zip(range(length), values, strict=False)) if length > 0 else b""
        if length < 0 or len(content) < length:
            raise UserError("damaged, or no protocol buffer")
        found[number].append(content)
    return dict(found)


def _numbers(values: Iterator[int]) -> Iterator[int]:
    """Integers of seven bits a byte, the lowest first."""
    number, shift = 0, 0
    for value in values:
        number |= (value & 0x7F) << shift
        shift += 7
        if value < 0x80:
            yield number
            number, shift = 0, 0
