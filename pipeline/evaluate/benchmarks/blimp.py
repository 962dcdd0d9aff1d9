"""BLiMP: 67 files of 1,000 minimal pairs each, in 12 phenomena of English (Warstadt et al. 2020, TACL 8).

There are three ways to compare the sentences of a pair. Whole sentences: the probability of one against that of the
other, for all 67 files. One prefix: two words after the same prefix. Two prefixes: the same word after two prefixes.
The latter two apply only to the files made for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.base import read_json_lines, require, subfolder, text_in
from pipeline.evaluate.benchmarks.choices import Choice, ChoiceBenchmark
from pipeline.evaluate.benchmarks.published import BLIMP

NUM_GROUPS = 13  # in the published table: all, and the 12 phenomena
PARADIGMS = [line.split()[0] for line in BLIMP.strip().splitlines()[NUM_GROUPS:]]


class Blimp(ChoiceBenchmark):
    name: ClassVar[str] = "blimp"
    title: ClassVar[str] = "BLiMP, whole sentences"
    source: ClassVar[str] = "Warstadt et al. 2020"

    @classmethod
    def read(cls, folder: Path) -> Self:
        folder = subfolder(folder, "data")
        require(folder, [f"{paradigm}.jsonl" for paradigm in PARADIGMS], cls.name)
        choices = []
        for paradigm in PARADIGMS:
            path = folder / f"{paradigm}.jsonl"
            for number, values in enumerate(read_json_lines(path), start=1):
                where = f"{path} line {number}"
                options = cls.options(values, where)
                if options is not None:
                    choices.append(Choice(options, text_in(values, "linguistics_term", where), paradigm))
        if not choices:
            raise UserError(f"{cls.name}={folder}: no pair is made for this method", argument="benchmark")
        return cls(choices)

    @classmethod
    def options(cls, values: dict[str, object], where: str) -> tuple[tuple[str, str], ...] | None:
        """Return (prefix, continuation) of the good and the bad option; None if the pair is not for this method."""
        return (("", text_in(values, "sentence_good", where)), ("", text_in(values, "sentence_bad", where)))


class BlimpOnePrefix(Blimp):
    name: ClassVar[str] = "blimp-one-prefix"
    title: ClassVar[str] = "BLiMP, two words after one prefix"

    @classmethod
    def options(cls, values: dict[str, object], where: str) -> tuple[tuple[str, str], ...] | None:
        if values.get("one_prefix_method") is not True:
            return None
        prefix = text_in(values, "one_prefix_prefix", where)
        good, bad = (text_in(values, f"one_prefix_word_{which}", where) for which in ("good", "bad"))
        return ((prefix, good), (prefix, bad))


class BlimpTwoPrefix(Blimp):
    name: ClassVar[str] = "blimp-two-prefix"
    title: ClassVar[str] = "BLiMP, one word after two prefixes"

    @classmethod
    def options(cls, values: dict[str, object], where: str) -> tuple[tuple[str, str], ...] | None:
        if values.get("two_prefix_method") is not True:
            return None
        word = text_in(values, "two_prefix_word", where)
        good, bad = (text_in(values, f"two_prefix_prefix_{which}", where) for which in ("good", "bad"))
        return ((good, word), (bad, word))
