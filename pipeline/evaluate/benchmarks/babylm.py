"""The evaluation of the BabyLM Challenge 2025, without training: sentences, word forms, reading times.

The folder is ``full_eval`` or ``fast_eval`` of the published data, or one of the folders in it. Scored as in the
challenge (github babylm/evaluation-pipeline-2025): accuracies are means over the parts of a task; the figure of word
forms is Spearman's ρ with people's choices; that of reading times is the share of residual variance (of a regression
without surprisal) that surprisal explains. Three things differ: a tie is wrong, the end of a sentence is scored with
it, and in reading times a word is scored with all of its tokens and its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pipeline.errors import UserError
from pipeline.evaluate.benchmarks.babylm_reading import ReadingTask
from pipeline.evaluate.benchmarks.babylm_tasks import ChoiceTask, FormsTask, Task, comps, entities, ewok, sentences
from pipeline.evaluate.benchmarks.base import Benchmark, Outcome, Scorer

Reader = Callable[[Path, str], Task]


@dataclass(frozen=True)
class Folder:
    """A folder of the data: of the full or the fast evaluation, or of both."""

    task: str
    read: Reader


FULL = {
    "blimp_filtered": Folder("BLiMP", ChoiceTask.reader(sentences)),
    "supplement_filtered": Folder("BLiMP supplement", ChoiceTask.reader(sentences)),
    "ewok_filtered": Folder("EWoK", ChoiceTask.reader(ewok)),
    "entity_tracking": Folder("entity tracking", ChoiceTask.reader(entities)),
    "comps": Folder("COMPS", ChoiceTask.reader(comps)),
    "wug_adj_nominalization": Folder("wug adjectives", FormsTask.read),
    "wug_past_tense": Folder("wug past tense", FormsTask.read),
    "reading": Folder("reading", ReadingTask.read),
}
FAST = {
    "blimp_fast": FULL["blimp_filtered"],
    "supplement_fast": FULL["supplement_filtered"],
    "ewok_fast": FULL["ewok_filtered"],
    "entity_tracking_fast": FULL["entity_tracking"],
    **{name: FULL[name] for name in ("wug_adj_nominalization", "wug_past_tense", "reading")},
}


class BabyLM(Benchmark):
    name: ClassVar[str] = "babylm"
    title: ClassVar[str] = "BabyLM 2025, zero-shot"
    source: ClassVar[str] = "BabyLM Challenge 2025"

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks

    @classmethod
    def read(cls, folder: Path) -> Self:
        known = FULL | FAST
        name = folder.resolve().name
        if name in known:
            return cls([known[name].read(folder, known[name].task)])
        expected = FAST if any((folder / name).is_dir() for name in FAST.keys() - FULL.keys()) else FULL
        missing = [name for name in expected if not (folder / name).is_dir()]
        if missing:
            raise UserError(
                f"{cls.name}={folder}: the folders {', '.join(missing)} are missing; give a folder "
                f"with all {len(expected)}, or one of them",
                argument="benchmark",
            )
        return cls([found.read(folder / name, found.task) for name, found in expected.items()])

    @property
    def num_texts(self) -> int:
        return sum(task.num_texts for task in self.tasks)

    def score(self, scorer: Scorer) -> Outcome:
        return scorer.outcome([figure for task in self.tasks for figure in task.figures(scorer)])
