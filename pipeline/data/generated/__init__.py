"""Corpora that are made by rule, to probe what a model can remember: ``builtin:copy``, ``builtin:adding`` and others.

``base`` says what a task is, and reads its name with its difficulty (``builtin:copy?delay=50``); ``tasks`` has the
tasks. ``pipeline.data.readers.builtin`` reads their text like that of any corpus, ``pipeline.evaluate.probes`` asks a
model for their answers.
"""

from pipeline.data.generated.base import Answer, Example, Task
from pipeline.data.generated.tasks import TASKS, is_generated, task_of

__all__ = ["TASKS", "Answer", "Example", "Task", "is_generated", "task_of"]
