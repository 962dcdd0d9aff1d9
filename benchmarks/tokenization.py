"""Megabytes tokenized a second, compared with the libraries: ``python benchmarks/tokenization.py TEXT...``.

Every variant encodes the same texts in turn, ``--repeat`` times, in this process; medians. The ids are compared. BPE:
merges learnt from the text, encoded by Hugging Face on all cores, by tiktoken (if it is installed) on as many threads,
and by ours on one. Words: Python's ``split`` and a dictionary. ``--sentencepiece``: the package itself, on a text that
is encoded whole. ``first`` is our first pass, when no word has been seen yet.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import (
    BpeTokenizer,
    Ids,
    SentencePieceTokenizer,
    Tokenizer,
    WordTokenizer,
    train_tokenizer,
)
from pipeline.data.tokenizer.bpe import BYTE_OF
from pipeline.data.tokenizer.pieces import GROUP_BYTES

PIECE = 16_384  # characters; Hugging Face and tiktoken encode a batch of them on all threads
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def pieces_of(text: str) -> list[str]:
    """Pieces that together encode as the whole: cut before the space between two words."""
    found, start = [], 0
    while start < len(text):
        stop = text.find(" ", start + PIECE)
        while stop > 0 and (text[stop - 1].isspace() or text[stop + 1 : stop + 2].isspace()):
            stop = text.find(" ", stop + 1)
        found.append(text[start : stop if stop > 0 else len(text)])
        start += len(found[-1])
    return found


def bpe_variants(tokenizer: BpeTokenizer) -> dict[str, Callable[[str], Ids]]:
    def hugging_face(text: str) -> Ids:
        return np.concatenate([e.ids for e in tokenizer.engine.encode_batch_fast(pieces_of(text))])

    variants: dict[str, Callable[[str], Ids]] = {"Hugging Face": hugging_face}
    try:
        import tiktoken
    except ImportError:
        return variants
    vocabulary = json.loads(tokenizer.engine.to_str())["model"]["vocab"]
    ranks = {bytes(BYTE_OF[character] for character in token): i for token, i in vocabulary.items()}
    encoding = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def by_tiktoken(text: str) -> Ids:
        return np.concatenate(list(threads.map(encoding.encode_to_numpy, pieces_of(text))))

    return {**variants, "tiktoken": by_tiktoken}


def word_variants(tokenizer: WordTokenizer) -> dict[str, Callable[[str], Ids]]:
    def plain(text: str) -> Ids:
        ids: list[int] = []
        for line in text.removesuffix("\n").split("\n"):
            ids += [tokenizer.id_of.get(word, 0) for word in line.split()]
            ids.append(1)
        return np.array(ids)

    return {"split and dict": plain}


def sentencepiece_variants(tokenizer: SentencePieceTokenizer) -> dict[str, Callable[[str], Ids]]:
    return {"SentencePiece": lambda text: np.array(tokenizer.processor.encode(text))}


def measure(name: str, tokenizer: Tokenizer, variants: dict[str, Callable[[str], Ids]], text: str, repeat: int) -> None:
    """Print the speed of each variant and of ``tokenizer`` itself."""
    megabytes = len(text.encode()) / 1e6
    start = time.perf_counter()
    expected = tokenizer.encode(text)
    print(f"{name:10} {'ours, first':16} {megabytes / (time.perf_counter() - start):8.1f} MB/s")
    seconds: dict[str, list[float]] = {}
    for _ in range(repeat):
        for variant, encode in {**variants, "ours": tokenizer.encode}.items():
            start = time.perf_counter()
            ids = encode(text)
            seconds.setdefault(variant, []).append(time.perf_counter() - start)
            if not np.array_equal(ids, expected):
                raise SystemExit(f"{name}: {variant} returns different ids")
    for variant, times in seconds.items():
        speed = megabytes / statistics.median(times)
        print(f"{name:10} {variant:16} {speed:8.1f} MB/s {len(expected) / megabytes * speed / 1e6:8.2f} Mtokens/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sentencepiece", nargs="*", type=Path, default=[], metavar="MODEL", help="model files")
    arguments = parser.parse_args()
    text = "".join(path.read_text(errors="replace") for path in arguments.texts)[: arguments.megabytes * 1_000_000]
    documents = pieces_of(text)
    bpe = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=arguments.vocab_size), documents, num_documents=1)
    words = train_tokenizer(TokenizerConfig(kind="word"), [text], num_documents=1)
    assert isinstance(bpe, BpeTokenizer)
    assert isinstance(words, WordTokenizer)
    measure("bpe", bpe, bpe_variants(bpe), text, arguments.repeat)
    measure("word", words, word_variants(words), text, arguments.repeat)
    for kind in ("char", "byte"):
        config = TokenizerConfig(kind=kind)  # type: ignore[arg-type]
        measure(kind, train_tokenizer(config, [text], num_documents=1), {}, text, arguments.repeat)
    for path in arguments.sentencepiece:
        model = SentencePieceTokenizer("none", path.read_bytes())
        measure(path.stem, model, sentencepiece_variants(model), text[:GROUP_BYTES], arguments.repeat)


if __name__ == "__main__":
    main()
