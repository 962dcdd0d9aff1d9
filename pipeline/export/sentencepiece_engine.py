"""A SentencePiece model as a Hugging Face tokenizer, the only kind that transformers reads.

Ids are those of SentencePiece except where its Unigram rounds the scores of two ways to cut a text to the same float32,
where a mark follows a character that the model's table maps (an accent after a ligature or a no-break space), where the
table joins characters (half-width katakana and its sound mark, Hangul letters), and where a text spells out a byte
(``<0x41>``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from pipeline.data.tokenizer import SentencePieceTokenizer
from pipeline.data.tokenizer.sentencepiece import (
    AS_SUFFIX,
    BYTE_FALLBACK,
    CHARACTER_MAP,
    DUMMY_PREFIX,
    MODEL_TYPE,
    REMOVE_EXTRA,
    SPACE_MARK,
    UNIGRAM,
    WORD,
    fields_in,
)
from pipeline.errors import UserError

PIECES = 1
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = range(1, 6)
# put before the name of a type that no text may yield; it is not a character
NO_TEXT = "\ufdd0"


@dataclass(frozen=True)
class Piece:
    """A type of the model, its ``score`` (log-probability, or minus the rank of its merge) and its ``kind``."""

    text: str
    score: float
    kind: int

    @classmethod
    def parse(cls, message: bytes) -> Piece:
        fields = dict(fields_in(message))
        (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
        return cls(fields[1].decode(), score, fields.get(3, NORMAL))

    @property
    def name(self) -> str:
        """The text of the type, marked with ``NO_TEXT`` if no text may yield it."""
        return NO_TEXT + self.text if self.kind in (CONTROL, UNUSED) else self.text


def engine_of(tokenizer: SentencePieceTokenizer) -> Tokenizer:
    """The Hugging Face tokenizer with the types of ``tokenizer``.

    Raises:
        UserError: it has types, or a treatment of white space, that Hugging Face does not have.
    """
    pieces = [Piece.parse(message) for number, message in fields_in(tokenizer.model) if number == PIECES]
    trainer, normalizer = tokenizer.trainer, tokenizer.normalizer
    kind, byte_fallback = trainer.get(MODEL_TYPE, UNIGRAM), bool(trainer.get(BYTE_FALLBACK))
    own = [piece.text for piece in pieces if piece.kind == USER_DEFINED]
    if kind == WORD or trainer.get(AS_SUFFIX) or own or any(" " in piece.text for piece in pieces):
        reason = f"with symbols of its own ({own[0]!r})" if own else "of words, or with white space after words,"
        raise UserError(f"a SentencePiece model {reason} has no form that transformers reads", argument="format")
    engine = Tokenizer(_unigram(pieces, byte_fallback) if kind == UNIGRAM else _bpe(pieces, byte_fallback))
    steps: list[normalizers.Normalizer] = []
    if normalizer.get(CHARACTER_MAP):
        steps.append(normalizers.Precompiled(normalizer[CHARACTER_MAP]))
    if normalizer.get(REMOVE_EXTRA, 1):
        steps.append(normalizers.Replace(Regex(r"\A +| +\z| +(?= )"), ""))
    if normalizer.get(DUMMY_PREFIX, 1):
        steps.append(normalizers.Prepend(" "))
    engine.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE_MARK)])
    if not any(SPACE_MARK in piece.text[1:] for piece in pieces if piece.kind == NORMAL):
        engine.pre_tokenizer = pre_tokenizers.Split(SPACE_MARK, "merged_with_next")
    engine.decoder = decoders.Sequence(
        [decoders.Replace(NO_TEXT, ""), decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
        + [decoders.Strip(" ", 1, 0)] * bool(normalizer.get(DUMMY_PREFIX, 1))
    )
    return engine


def _unigram(pieces: list[Piece], byte_fallback: bool) -> models.Unigram:
    unknown = next(i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN)
    names = [NO_TEXT + piece.text if i == unknown else piece.name for i, piece in enumerate(pieces)]
    scores = [piece.score for piece in pieces]
    return models.Unigram(list(zip(names, scores, strict=True)), unknown, byte_fallback=byte_fallback)


def _bpe(pieces: list[Piece], byte_fallback: bool) -> models.BPE:
    """Two neighbours merge if the vocabulary has them as one type, those with the highest score first."""
    ids = {piece.name: i for i, piece in enumerate(pieces)}
    parts = {piece.text for piece in pieces if piece.kind == NORMAL}
    merges: list[tuple[float, int, int, str, str]] = []
    for piece in pieces:
        for cut in range(1, len(piece.text) if piece.kind == NORMAL else 0):
            left, right = piece.text[:cut], piece.text[cut:]
            if left in parts and right in parts:
                merges.append((-piece.score, ids[left], ids[right], left, right))
    unknown = next(piece.text for piece in pieces if piece.kind == UNKNOWN)
    pairs = [(left, right) for *_, left, right in sorted(merges)]
    return models.BPE(ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback=byte_fallback)
