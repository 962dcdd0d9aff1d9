"""Rows of words in the columns of ``neural-complexity`` (van Schijndel & Linzen 2018), for scripts that read those.

One line per word, separated by blanks: ``word sentid sentpos wlen surp entropy entred``. Sentences and places count
from 0, figures are in bits, ``entropy`` is that of the distribution from which the word comes, ``entred`` how much
lower it is than at the word before, at least 0, and 0 for the first word of a sentence. A sentence ends with ``<eos>``
or its document. Its end has no line, and a word that the model does not know is ``<unk>``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from pipeline.data.tokenizer import UNK
from pipeline.errors import UserError
from pipeline.evaluate.words import Row
from pipeline.files import new_file

HEADER = "word sentid sentpos wlen surp entropy entred"


def write_complexity(path: str, rows: Iterable[Row]) -> dict[str, int]:
    """Write the words among ``rows`` whole or not at all; return how many rows of each level there were.

    Raises:
        UserError: a word has white space in it, which separates the columns.
        UnwritableError: the file cannot be written; an existing one is kept.
    """
    counts = {"token": 0, "word": 0}

    def words() -> Iterator[Row]:
        for row in rows:
            counts[row.level] += 1
            if row.level == "word":
                yield row

    with new_file(path, argument="surprisal") as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(HEADER + "\n")
        file.writelines(line + "\n" for line in lines(words()))
    return counts


def lines(words: Iterable[Row]) -> Iterator[str]:
    """Yield a line for each of ``words`` except the ends of sentences."""
    sentence, position, document, former, has_ended = -1, -1, -1, 0.0, False
    for row in words:
        if row.is_end:
            has_ended = True
            continue
        text = UNK if row.own is not None else str(row.to_json()["text"])
        if text.split() != [text]:
            raise UserError(f"{text!r} has white space in it, which separates the columns of neural-complexity")
        assert row.entropy_nats is not None
        entropy = row.entropy_nats / math.log(2)
        if row.document != document or has_ended:
            sentence += max(1, row.document - document)
            document, position, former, has_ended = row.document, -1, entropy, False
        position += 1
        reduction = max(0.0, former - entropy)
        former = entropy
        bits = row.nats / math.log(2)
        yield f"{text} {sentence} {position} {len(text)} {bits!r} {entropy!r} {reduction!r}"
