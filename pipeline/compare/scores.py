"""The scores of a trained model on the held-out text: nats by stretch of it, by frequency, by position in the context.

Letters: T time, R rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.data.scoring import ScoringDocuments
from pipeline.data.shards import PreparedCorpus
from pipeline.data.streams import NO_RESETS, ResetRule, part_of
from pipeline.data.tokenizer import Ids
from pipeline.data.windows import Tokens, Window
from pipeline.evaluate import Breakdown, Group, count_types, evaluate, split_held_out
from pipeline.evaluate.breakdown import Numbers
from pipeline.files import write_file
from pipeline.model.language_model import LanguageModel
from pipeline.resources import Worker
from pipeline.scoring import scored_windows
from pipeline.strict_json import to_json
from pipeline.training import checkpoint

# rows that begin with a zero state, and how far each is read
NUM_ROWS, LONGEST_CONTEXT = 512, 512
# rows side by side, and tokens of all of these at a time: attention moves the cache of each row once per window
ROWS_AT_ONCE, TOKENS_AT_ONCE = 64, 1 << 13
# how models are scored, raised whenever figures of both ways cannot be compared; 1: the rows of ``depths`` were read
# across documents
METHOD = 2
# tokens read before the target, the fewest of each group; the last group extends to the longest context
DEPTHS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


@dataclass(frozen=True)
class Scored:
    """Sums over the held-out text of one trained model: nats and tokens of all of it and of its parts."""

    checkpoint: str
    nats: float
    tokens: int
    num_bytes: int | None
    unit: str  # the parts of the text that intervals and tests draw
    unit_nats: list[float]
    unit_tokens: list[float]
    frequencies: list[Group]  # by the count of the type in the training text
    depths: list[Group]  # by the number of tokens read before, from a zero state on

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    def to_json(self) -> dict[str, Any]:
        return {"method": METHOD, **asdict(self)}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Scored:
        groups = {name: [Group(**group) for group in values[name]] for name in ("frequencies", "depths")}
        return cls(**{name: value for name, value in values.items() if name != "method"} | groups)


def is_current(place: Path) -> bool:
    """Whether the score in the file ``place`` was made by this ``METHOD``; also if the file cannot be read."""
    try:
        return bool(json.loads(place.read_text(encoding="utf-8")).get("method", 1) == METHOD)
    except (OSError, ValueError, AttributeError):
        return True


def split_of(splits: Collection[str], config: Config) -> str:
    """The one of ``splits`` that ``compare.split`` names."""
    if config.compare.split != "auto":
        return config.compare.split
    return "test" if "test" in splits else "valid"


def score_run(folder: Path, target: Path, corpus: PreparedCorpus, worker: Worker, *, split: str) -> None:
    """Score the best checkpoint of the run in ``folder`` and write the result to ``target``.

    Raises:
        UserError: the run has no intact checkpoint.
    """
    loaded = checkpoint.load_model(folder, worker.device, which="best")
    model, config = loaded.model, loaded.config
    text = split_held_out(corpus, split, layout=config.data.layout)
    breakdown = Breakdown(text.tokens, model.embedding.num_embeddings)
    score = evaluate(
        model,
        text,
        streams=config.evaluate.streams,
        bptt=config.train.bptt,
        reset=ResetRule.of(config.train),
        burn_in=config.evaluate.burn_in,
        precision=config.train.precision,
        breakdown=breakdown,
    )
    nats, tokens = breakdown.per_unit()
    counts = count_types(corpus.splits["train"], model.embedding.num_embeddings)
    found = Scored(
        checkpoint=loaded.path.name,
        nats=score.nats,
        tokens=score.tokens,
        num_bytes=score.num_bytes,
        unit=breakdown.unit,
        unit_nats=nats.tolist(),
        unit_tokens=tokens.tolist(),
        frequencies=breakdown.frequency_groups(counts),
        depths=by_depth(
            model,
            text.tokens,
            precision=config.train.precision,
            reset=ResetRule.of(config.train),
            begin_id=text.begin_id,
        ),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, to_json(found.to_json(), indent=1) + "\n")


def by_depth(
    model: LanguageModel,
    tokens: Tokens,
    *,
    precision: str,
    reset: ResetRule = NO_RESETS,
    begin_id: int | None = None,
) -> list[Group]:
    """Nats by the number of tokens read before: rows begin evenly over the text, each with a zero state.

    Args:
        reset: where within a row the state is made zero, as in training.
        begin_id: read before each document; the rows are then all documents. None: the text is read as it stands.
    """
    if begin_id is None:
        longest = min(LONGEST_CONTEXT, max(1, len(tokens) // 2))
        windows = windows_of_rows(tokens, longest, reset)
    else:
        longest, step = LONGEST_CONTEXT, max(1, TOKENS_AT_ONCE // ROWS_AT_ONCE)
        documents = ScoringDocuments(tokens, num_rows=ROWS_AT_ONCE, window_length=step, begin_id=begin_id)
        windows = (window for window in documents.windows() if window.position < longest)
    sums, counts = np.zeros((2, longest))
    for part in scored_windows(model, windows, precision=precision):
        own = slice(part.window.position, min(part.window.position + len(part.nats), longest))
        number = own.stop - own.start
        sums[own] += part.nats[:number].double().sum(1).cpu().numpy()
        counts[own] += (part.window.targets[:number] >= 0).sum(1)
    return depth_groups(sums, counts)


def windows_of_rows(tokens: Tokens, longest: int, reset: ResetRule) -> Iterator[Window]:
    """The windows of rows of ``longest`` tokens, some rows after others."""
    starts = rows_of(len(tokens), longest)
    for begin in range(0, len(starts), ROWS_AT_ONCE):
        yield from context_windows(tokens, starts[begin : begin + ROWS_AT_ONCE], longest, reset)


def rows_of(num_tokens: int, length: int) -> Ids:
    """Where rows of ``length`` inputs and targets begin, evenly over the text; each place once."""
    last = num_tokens - 1 - length
    return np.unique(np.linspace(0, max(0, last), min(NUM_ROWS, max(1, last + 1))).astype(np.int64))


def context_windows(tokens: Tokens, starts: Ids, length: int, reset: ResetRule = NO_RESETS) -> Iterator[Window]:
    """(T, R) windows of rows that begin at ``starts``, ``length`` inputs in all."""
    step = max(1, TOKENS_AT_ONCE // len(starts))
    for position in range(0, length, step):
        number = min(step, length - position)
        block = tokens.rows(starts + position, number + 1)  # (R, T + 1)
        resets = reset.mask(tokens, starts + position, position=position, length=number)
        yield Window(
            inputs=np.ascontiguousarray(block[:, :-1].T),
            targets=np.ascontiguousarray(block[:, 1:].T),
            position=position,
            next_position=position + number,
            begins=position == 0,
            resets=part_of(resets, 0, number),
        )


def depth_groups(sums: Numbers, counts: Numbers | int) -> list[Group]:
    """Groups of ``DEPTHS``, up to the last one, from (T,) nats after 1, 2, … tokens of (T,) ``counts`` of targets."""
    tokens = np.broadcast_to(counts, sums.shape)
    longest = int(np.flatnonzero(tokens)[-1]) + 1
    groups = []
    for first, after in zip(DEPTHS, [*DEPTHS[1:], longest + 1], strict=True):
        last = min(after - 1, longest)
        if first <= last:
            own = slice(first - 1, last)
            groups.append(Group(first, last, float(sums[own].sum()), int(tokens[own].sum())))
    return groups
