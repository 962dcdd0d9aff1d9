"""A prepared corpus in, its card out: what each split holds, and which tokens it is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.data.shards import PreparedCorpus, TokenSequence
from pipeline.data.tokenizer import Ids

NUM_FREQUENT = 10
BLOCK_TOKENS = 1 << 22


@dataclass(frozen=True)
class SplitCard:
    """Figures of one split. Coverage is the share of the vocabulary that occurs in it."""

    tokens: int
    documents: int
    shards: int
    bytes: int
    bytes_per_token: float
    coverage: float
    unknown_rate: float
    duplicates_left_out: int
    too_short_or_long_left_out: int
    undecodable_left_out: int
    replaced_characters: int
    most_frequent: list[tuple[str, float]]  # (token, share of all tokens)


@dataclass(frozen=True)
class Card:
    """All that ``jobs.prepare --verify`` says about a corpus."""

    directory: str
    tokenizer: str
    vocab_size: int
    files_left_out: int
    splits: dict[str, SplitCard]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.directory}: {self.tokenizer} tokens, {self.vocab_size:,} types, every byte as it was written"]
        if self.files_left_out:
            lines.append(f"  {self.files_left_out:,} files left out (duplicates, length or encoding)")
        for name, split in self.splits.items():
            lines.append(
                f"  {name}: {split.tokens:,} tokens in {split.documents:,} documents and {split.shards:,} shards, "
                f"{split.bytes:,} bytes ({split.bytes_per_token:.3f} a token)"
            )
            lines.append(
                f"    {split.coverage:.2%} of the vocabulary occurs, {split.unknown_rate:.3%} of the tokens are <unk>"
            )
            left_out = {
                "duplicate documents": split.duplicates_left_out,
                "too short or too long": split.too_short_or_long_left_out,
                "not UTF-8": split.undecodable_left_out,
            }
            if any(left_out.values()):
                lines.append("    left out: " + ", ".join(f"{n:,} {why}" for why, n in left_out.items() if n))
            if split.replaced_characters:
                lines.append(f"    {split.replaced_characters:,} characters replaced that were not UTF-8")
            lines.append("    most frequent: " + "  ".join(f"{t!r} {share:.2%}" for t, share in split.most_frequent))
        return "\n".join(lines)


def card(corpus: PreparedCorpus) -> Card:
    """Read every token of ``corpus`` once and return what it holds."""
    splits = {}
    for name, sequence in corpus.splits.items():
        entry = corpus.manifest["splits"][name]
        counts = count_tokens(sequence, corpus.vocab_size)
        frequent = np.argsort(-counts, kind="stable")[:NUM_FREQUENT]
        splits[name] = SplitCard(
            tokens=len(sequence),
            documents=entry["num_documents"],
            shards=len(sequence.entries),
            bytes=sequence.num_bytes,
            bytes_per_token=sequence.num_bytes / max(1, len(sequence)),
            coverage=float(np.count_nonzero(counts) / corpus.vocab_size),
            unknown_rate=sequence.num_unknown / max(1, len(sequence)),
            duplicates_left_out=entry["num_duplicates"],
            too_short_or_long_left_out=entry["num_unwanted"],
            undecodable_left_out=entry["num_undecodable"],
            replaced_characters=entry["num_replaced"],
            most_frequent=[
                (name_of(corpus, int(token)), float(counts[token] / max(1, len(sequence))))
                for token in frequent
                if counts[token]
            ],
        )
    left_out = corpus.manifest["num_files_left_out"]
    return Card(corpus.directory, corpus.tokenizer.kind, corpus.vocab_size, left_out, splits)


def count_tokens(sequence: TokenSequence, vocab_size: int) -> Ids:
    """Return how often each type occurs, (V,)."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(sequence), BLOCK_TOKENS):
        counts += np.bincount(sequence[start : start + BLOCK_TOKENS], minlength=vocab_size)
    return counts


def name_of(corpus: PreparedCorpus, token: int) -> str:
    """Return a token as it is shown to people."""
    tokenizer = corpus.tokenizer
    if token in (tokenizer.eos_id, tokenizer.unk_id):
        return "<eos>" if token == tokenizer.eos_id else "<unk>"
    return tokenizer.decode([token]) or tokenizer.decode_bytes(token).decode(errors="replace")
