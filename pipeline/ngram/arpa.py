r"""Read and write n-gram models in the ARPA format of SRILM and kenlm.

    \data\
    ngram 1=4
    ngram 2=5

    \1-grams:
    -0.7781513	<unk>	-0.1760913
    …
    \end\

A line has log10 p, the words, and log10 of the back-off weight, which may be left out. Nothing here loops over n-grams
in Python, unless a file has mistakes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.tokenizer import Ids
from pipeline.data.utf8 import MARK, is_utf8
from pipeline.errors import UserError
from pipeline.files import new_file
from pipeline.ngram.model import BEGIN, Level, NGramModel

LN_10 = math.log(10)
COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")
HEADING = re.compile(rb"(?m)^\\(?:(\d+)-grams:|end\\)[ \t]*\r?$")
DATA = re.compile(rb"(?m)^\\data\\[ \t]*\r?$")

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def write_arpa(model: NGramModel, path: str | Path, *, argument: str = "") -> None:
    """Write ``model`` whole or not at all, its numbers as float32. Raises ``UnwritableError`` as ``new_file`` does."""
    words = pa.array(model.words, pa.large_string())
    with new_file(path, argument=argument) as temporary, temporary.open("wb") as file:
        file.write(b"\\data\\\n")
        for n, number in enumerate(model.num_ngrams, start=1):
            file.write(f"ngram {n}={number}\n".encode())
        texts: pa.Array = None
        for n, level in enumerate(model.levels, start=1):
            last = words.take(pa.array(level.keys % len(words)))
            texts = last if n == 1 else _joined(texts.take(pa.array(level.keys // len(words))), last, between=" ")
            columns = [_log10(level.log_p), texts]
            if n < model.order:
                columns.append(_log10(level.log_backoff))
            lines = _joined(_joined(*columns, between="\t"), pa.scalar("", pa.large_string()), between="\n")
            file.write(f"\n\\{n}-grams:\n".encode())
            _, _, data = lines.buffers()
            file.write(data)
        file.write(b"\n\\end\\\n")


def _joined(*columns: pa.Array | pa.Scalar, between: str) -> pa.Array:
    return pc.binary_join_element_wise(*columns, pa.scalar(between, pa.large_string()))


def _log10(values: Numbers) -> pa.Array:
    """As text."""
    return pc.cast(pa.array((values / LN_10).astype(np.float32)), pa.large_string())


def read_arpa(path: str | Path, *, argument: str = "") -> NGramModel:
    """Return the model in the file at ``path``.

    Raises:
        UserError: it cannot be read, or is not an ARPA file; the message says what is wrong and with which order.
    """
    try:
        data = Path(path).read_bytes().removeprefix(MARK)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", argument=argument) from None
    try:
        return _model_in(data)
    except ValueError as error:
        raise UserError(f"{path}: {error}", argument=argument) from None


def _model_in(data: bytes) -> NGramModel:
    """Raise ``ValueError`` with what is wrong, as half a sentence."""
    if not is_utf8(data):
        raise ValueError("is not UTF-8")
    words: list[str] = []
    levels: list[Level] = []
    for order, number, section in _sections(data):
        found, log_p, log_backoff = _parsed(section, order, number)
        if order == 1:
            known, words = found, found.to_pylist()
            if len(known.unique()) < len(words):
                raise ValueError("has a word twice among its 1-grams")
            if BEGIN not in words:
                raise ValueError(f"has no {BEGIN} among its 1-grams, the beginning of a sentence")
        ids = pc.index_in(found, value_set=known)
        if ids.null_count:
            unknown = found.filter(pc.is_null(ids))[0].as_py()
            raise ValueError(f"has {unknown!r} in a {order}-gram, but not among its 1-grams")
        rows = np.asarray(ids).astype(np.int64).reshape(-1, order)
        levels.append(_level(rows, log_p * LN_10, log_backoff * LN_10, levels, len(words)))
    return NGramModel(words, levels)


def _sections(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the order, the number of n-grams and the lines of each section that has any."""
    begin = DATA.search(data)
    if begin is None:
        raise ValueError("is not a file of n-grams: it has no line \\data\\")
    headings = list(HEADING.finditer(data, begin.end()))
    if not headings or headings[-1][1] is not None:
        raise ValueError("is cut short: it has no line \\end\\")
    counts = {int(n): int(number) for n, number in COUNT.findall(data[begin.end() : headings[0].start()])}
    orders = [int(heading[1]) for heading in headings[:-1]]
    if orders != list(range(1, len(orders) + 1)) or list(counts) != orders:
        raise ValueError(f"declares n-grams of the orders {list(counts)}, but has {orders}")
    for order, (heading, following) in zip(orders, pairwise(headings), strict=True):
        if counts[order] or order == 1:
            yield order, counts[order], data[heading.end() : following.start()]


def _parsed(section: bytes, order: int, number: int) -> tuple[pa.Array, Numbers, Numbers]:
    """Return (K · n,) words, (K,) log10 p and (K,) log10 of the back-off weight, 0 where it is left out."""
    text = section.replace(b"\r", b"").strip()
    lines = pc.utf8_trim_whitespace(pa.array(text.decode().split("\n") if text else [], pa.large_string()))
    lines = lines.filter(pc.not_equal(lines, ""))
    if len(lines) != number or not number:
        raise ValueError(f"declares {number:,} {order}-grams, but has {len(lines):,}")
    fields = pc.ascii_split_whitespace(lines)
    lengths = np.asarray(pc.list_value_length(fields)).astype(np.int64)
    is_wrong = (lengths < order + 1) | (lengths > order + 2)
    if is_wrong.any():
        raise ValueError(f"has a line among its {order}-grams that is not one: {_shown(lines, is_wrong)}")
    values, starts = fields.flatten(), np.cumsum(lengths) - lengths
    log_p = _numbers(values.take(pa.array(starts)), lines, order)
    if (log_p > 0).any():
        raise ValueError(f"has a probability above 1 among its {order}-grams: {_shown(lines, log_p > 0)}")
    has_weight = lengths == order + 2
    weights = values.take(pa.array(starts[has_weight] + order + 1))
    log_backoff = np.zeros(number)
    log_backoff[has_weight] = _numbers(weights, lines.filter(pa.array(has_weight)), order)
    words = (starts[:, None] + np.arange(1, order + 1)).ravel()
    return values.take(pa.array(words)), log_p, log_backoff


def _numbers(values: pa.Array, lines: pa.Array, order: int) -> Numbers:
    """Return ``values`` as numbers; each comes from the line at the same index of ``lines``."""
    try:
        found = np.asarray(pc.cast(values, pa.float64()))
    except pa.ArrowInvalid:
        found = np.array([_number(value) for value in values.to_pylist()])
    if np.isnan(found).any():
        raise ValueError(f"has no number in a line among its {order}-grams: {_shown(lines, np.isnan(found))}")
    return found


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _shown(lines: pa.Array, is_wrong: Ids) -> str:
    """The first line that is wrong."""
    return repr(lines[int(np.flatnonzero(is_wrong)[0])].as_py()[:80])


def _level(ids: Ids, log_p: Numbers, log_backoff: Numbers, shorter: list[Level], vocab_size: int) -> Level:
    """The n-grams of (K, n) ``ids``, whatever their order in the file."""
    order = ids.shape[1]
    contexts = ids[:, 0] if order > 1 else np.zeros(len(ids), dtype=np.int64)
    for level, words in zip(shorter[1:], ids.T[1:-1], strict=True):
        contexts = level.find(contexts, words, vocab_size)
    if (contexts < 0).any():
        raise ValueError(f"has a {order}-gram whose first {order - 1} words are not among its {order - 1}-grams")
    keys = contexts * vocab_size + ids[:, -1]
    places = np.argsort(keys)
    if len(keys) > 1 and not np.diff(keys[places]).all():
        raise ValueError(f"has a {order}-gram twice")
    return Level(keys[places], log_p[places], log_backoff[places])
