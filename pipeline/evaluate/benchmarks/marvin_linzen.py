"""Agreement, reflexives and negative polarity items in sentences made from templates (Marvin & Linzen 2018).

The published layout is a pickle file of Python for each construction: a dictionary of lists of pairs (or, for negative
polarity items, of three sentences, the first of which is right). A pickle can name functions that are called when it is
read; here every name is refused, so that only lists, tuples, dictionaries and plain values can come out. Animate and
inanimate subjects of a construction form one part, as in the paper. Sentences get `` .`` at the end, as in the paper's
scoring.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar, Self

from pipeline.data.utf8 import is_text
from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.base import require, subfolder
from pipeline.evaluate.benchmarks.choices import Choice, ChoiceBenchmark

FILES = {
    "agreement": [
        *("simple_agrmt", "sent_comp", "vp_coord", "long_vp_coord", "prep_anim", "prep_inanim", "subj_rel"),
        *("obj_rel_across_anim", "obj_rel_across_inanim", "obj_rel_no_comp_across_anim"),
        *("obj_rel_no_comp_across_inanim", "obj_rel_within_anim", "obj_rel_within_inanim"),
        *("obj_rel_no_comp_within_anim", "obj_rel_no_comp_within_inanim"),
    ],
    "reflexives": ["simple_reflexives", "reflexive_sent_comp", "reflexives_across"],
    "npi": ["simple_npi_anim", "simple_npi_inanim", "npi_across_anim", "npi_across_inanim"],
}
# what the first sentence of three is compared with
OTHERS = ("intrusive", "ungrammatical")


class MarvinLinzen(ChoiceBenchmark):
    name: ClassVar[str] = "marvin-linzen"
    title: ClassVar[str] = "Marvin & Linzen"
    source: ClassVar[str] = "Marvin & Linzen 2018"

    @classmethod
    def read(cls, folder: Path) -> Self:
        folder = subfolder(folder, "EMNLP2018/templates", "templates")
        require(folder, [f"{name}.pickle" for names in FILES.values() for name in names], cls.name)
        return cls(
            [choice for group, names in FILES.items() for name in names for choice in _read(folder, group, name)]
        )


def _read(folder: Path, group: str, name: str) -> list[Choice]:
    path = folder / f"{name}.pickle"
    found = load_plain(path)
    part = name.removesuffix("_anim").removesuffix("_inanim")
    is_npi = group == "npi"
    if not isinstance(found, dict) or not all(isinstance(items, list) for items in found.values()):
        raise UserError(f"{path} does not hold lists of sentences")
    choices = []
    for key, items in found.items():
        for number, item in enumerate(items, start=1):
            if not _is_sentences(item, 3 if is_npi else 2):
                raise UserError(
                    f"{path}: item {number} of {key!r} is not {'three' if is_npi else 'a pair of'} sentences"
                )
            good, *bad = (f"{text} ." for text in item)
            names = [f"{part} over {other}" for other in OTHERS] if is_npi else [part]
            choices += [Choice.of_sentences(good, other, group, n) for other, n in zip(bad, names, strict=True)]
    if not choices:
        raise UserError(f"{path} has no sentences")
    return choices


def _is_sentences(item: object, number: int) -> bool:
    if not isinstance(item, (list, tuple)) or len(item) != number:
        return False
    return all(isinstance(text, str) and bool(text.strip()) and is_text(text) for text in item)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, tuples, dictionaries, texts and numbers, and nothing that has to be looked up by name."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"names {module}.{name}, which sentences do not need")


def load_plain(path: Path) -> object:
    """Return the contents of a pickle of plain data. Raises ``UserError`` for any other, of which nothing is run."""
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="utf-8").load()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # bytes that are not a pickle can raise anything
        raise UserError(
            f"{path} cannot be read as sentences: {str(error).splitlines()[0] if str(error) else 'damaged'}"
        ) from None
