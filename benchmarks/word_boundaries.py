"""Word surprisal: how much the three conventions differ, and the mass on other segmentations.

    python benchmarks/word_boundaries.py --run runs/quickstart     # the tables of docs/psycholinguistics.md

The sentences are the first of the run's validation split that have 3 to 60 words.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import re
import statistics
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from pipeline import run
from pipeline.data.tokenizer import Tokenizer
from pipeline.evaluate import text_held_out
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.evaluate.type_classes import groups_of_types, places_of
from pipeline.evaluate.windows import window_of
from pipeline.evaluate.words import WORD_BOUNDARIES, Row, Words
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows
from pipeline.training.checkpoint import Loaded, load_model

SENTENCE = re.compile(r"(?<=[.!?])\s+")
BITS = 1 / math.log(2)
MOST_SEGMENTATIONS = 1024  # of a word; longer ones are left out


def sentences_of(loaded: Loaded, number: int) -> list[str]:
    tokens = run.corpus_of(loaded).splits["valid"]
    text = loaded.tokenizer.decode(tokens[0 : len(tokens)])
    sentences = (" ".join(sentence.split()) for sentence in SENTENCE.split(text))
    return list(itertools.islice((s for s in sentences if 3 <= len(s.split()) <= 60), number))


def words_of(loaded: Loaded, path: Path, convention: str) -> list[Row]:
    text = text_held_out(loaded.tokenizer, str(path), loaded.config.corpus, by_line=True)
    rows = surprisal_rows(loaded.model, loaded.tokenizer, text, word_boundary=convention)  # type: ignore[arg-type]
    return [row for row in rows if row.level == "word"]


def conventions(loaded: Loaded, sentences: list[str]) -> None:
    """Print the surprisal of the words of ``sentences`` under each convention."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentences.txt"
        path.write_text("\n".join(sentences), encoding="utf-8")
        rows = {name: words_of(loaded, path, name) for name in WORD_BOUNDARIES}
    bits = {name: np.array([row.nats for row in found]) * BITS for name, found in rows.items()}
    num_words = len(bits["corrected"])
    print(f"{len(sentences)} sentences, {num_words:,} words and ends; bits")
    print("| convention | mean | off from corrected: mean | mean, without sign | largest | by over 1 bit | r |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, values in bits.items():
        off = values - bits["corrected"]
        figures = f"{values.mean():.2f} | {off.mean():+.2f} | {abs(off).mean():.2f} | {abs(off).max():.1f}"
        share, r = 100 * (abs(off) > 1).mean(), np.corrcoef(values, bits["corrected"])[0, 1]
        print(f"| `{name}` | {figures} | {share:.1f} % | {r:.3f} |")
    off = bits["preceding"] - bits["corrected"]
    shown = [row.to_json()["text"] for row in rows["corrected"]]
    print("furthest off:", *(f"{shown[i]!r} {bits['preceding'][i]:.1f} for {bits['corrected'][i]:.1f}"
                             for i in np.argsort(-abs(off))[:8]), sep="\n    ")  # fmt: skip


def other_segmentations(loaded: Loaded, sentences: list[str], number: int) -> None:
    """Print, for ``number`` words, the mass of all other token strings that spell a word, next to that of its own."""
    model, tokenizer = loaded.model, loaded.tokenizer
    pick = random.Random(1)
    places = [(s, i) for s in sentences for i in range(1, len(s.split()))]
    own, all_of_it, num_left_out = [], [], 0
    for sentence, index in pick.sample(places, number):
        words = sentence.split()
        context = tokenizer.encode(" ".join(words[:index])).tolist()
        ids = tokenizer.encode(" ".join(words[: index + 1])).tolist()
        if ids[: len(context)] != context:
            num_left_out += 1
            continue
        data = b"".join(map(tokenizer.decode_bytes, ids[len(context) :]))
        found = list(itertools.islice(spellings(tokenizer, data), MOST_SEGMENTATIONS + 1))
        if len(found) > MOST_SEGMENTATIONS:
            num_left_out += 1
            continue
        nats = dict(zip(map(tuple, found), nats_of(model, tokenizer, context, found), strict=True))
        own.append(nats[tuple(ids[len(context) :])])
        all_of_it.append(-math.log(sum(math.exp(-value) for value in nats.values())))
    print(f"other segmentations of {len(own)} words ({num_left_out} left out: they change the tokens before them, or "
          f"have over {MOST_SEGMENTATIONS})")  # fmt: skip
    if not own:
        return
    shares = [1 - math.exp(whole - mine) for mine, whole in zip(own, all_of_it, strict=True)]
    bits = [(mine - whole) * BITS for mine, whole in zip(own, all_of_it, strict=True)]
    print(f"share of a word's probability: mean {statistics.mean(shares):.4f}, median {statistics.median(shares):.6f}")
    print(f"bits by which the word is likelier with them: mean {statistics.mean(bits):.3f}, largest {max(bits):.2f}")


def spellings(tokenizer: Tokenizer, data: bytes) -> Iterator[list[int]]:
    """All token strings that spell ``data``."""
    ids_of = types_by_bytes(tokenizer)
    if not data:
        yield []
    for end in range(1, len(data) + 1):
        for token in ids_of.get(data[:end], ()):
            for rest in spellings(tokenizer, data[end:]):
                yield [token, *rest]


@cache
def types_by_bytes(tokenizer: Tokenizer) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for token in range(tokenizer.vocab_size):
        found.setdefault(tokenizer.decode_bytes(token), []).append(token)
    return found


def nats_of(model: LanguageModel, tokenizer: Tokenizer, context: list[int], ends: list[list[int]]) -> list[float]:
    """The corrected nats of the word that each of ``ends`` spells after ``context``."""
    rows = [np.array([*tokenizer.start_ids.tolist(), *context, *end, 0]) for end in ends]
    (part,) = scored_windows(model, [window_of(rows)], groups=groups_of_types(tokenizer, model))
    found = []
    for column, row in enumerate(rows):
        words, places = Words(tokenizer), places_of(part, column)
        tokens = row[1:-1].tolist()
        for token, place in zip(tokens, places, strict=False):
            list(words.push(token, tokenizer.decode_bytes(token), 0, place))
        found.append(next(iter(words.finish(places[len(tokens)]))).nats)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", metavar="DIR", required=True)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--words", type=int, default=200, help="whose other segmentations are counted")
    arguments = parser.parse_args()
    loaded = load_model(arguments.run, "cpu")
    sentences = sentences_of(loaded, arguments.sentences)
    conventions(loaded, sentences)
    other_segmentations(loaded, sentences, arguments.words)


if __name__ == "__main__":
    main()
