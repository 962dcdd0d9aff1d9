"""Long-distance number agreement in sentences of a treebank and in nonsense made of them (Gulordava et al. 2018).

``generated.tab`` has two rows for each sentence: its prefix with the right form of the word that comes next, and with
the wrong one. A sentence is right if the right form is likelier after the prefix. Each sentence is read by itself; in
the paper they were read one after another.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.base import require
from pipeline.evaluate.benchmarks.choices import Choice, ChoiceBenchmark
from pipeline.tables import read_table

FILE = "generated.tab"
TYPES = {"original": "original", "generated": "nonce"}
KEY = ("pattern", "constr_id", "sent_id")
COLUMNS = (*KEY, "type", "class", "prefix", "form")
CORRECT, WRONG = "correct", "wrong"


class Agreement(ChoiceBenchmark):
    name: ClassVar[str] = "agreement"
    title: ClassVar[str] = "number agreement"
    source: ClassVar[str] = "Gulordava et al. 2018"
    is_pooled: ClassVar[bool] = True

    @classmethod
    def read(cls, folder: Path) -> Self:
        languages = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
        if languages and not (folder / FILE).is_file():
            raise UserError(
                f"{cls.name}={folder}: name the folder of one language: {', '.join(languages)}", argument="benchmark"
            )
        require(folder, [FILE], cls.name)
        table = read_table(str(folder / FILE))
        if missing := [column for column in COLUMNS if column not in table.columns]:
            raise UserError(f"{table.path} has no column {missing[0]}; it should be of number agreement")
        sentences: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}
        rows: dict[tuple[str, ...], int] = {}
        for row in table.rows:
            key = tuple(table.text(row, column) for column in (*KEY, "type"))
            kind = table.text(row, "class")
            if kind not in (CORRECT, WRONG) or kind in sentences.get(key, {}):
                raise table.error(row.number, f"is a second {kind!r} row of its sentence, or neither correct nor wrong")
            if key[-1] not in TYPES:
                raise table.error(row.number, f"has the type {key[-1]!r}, not {' or '.join(TYPES)}")
            sentences.setdefault(key, {})[kind] = (table.text(row, "prefix"), table.text(row, "form"))
            rows[key] = row.number
        choices = []
        for key, forms in sentences.items():
            if len(forms) < 2:
                raise table.error(rows[key], "has no other row with the other form of its sentence")
            choices.append(Choice((forms[CORRECT], forms[WRONG]), TYPES[key[-1]], f"{TYPES[key[-1]]} {key[0]}"))
        return cls(choices, folder.resolve().name)
