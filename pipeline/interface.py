"""A trained model in Python: ``from pipeline import load``.

    model = load("runs/quickstart")
    model.next("The class statement")                     # the likeliest next tokens
    model.surprisal(["One sentence.", "And another."])    # nats of each token and word
    model.generate("A class is", num_tokens=50, seed=1)

A text is read as ``jobs.evaluate --surprisal`` reads it: after the end of a text, so that its first token has a
probability too. Every call begins at ``model.state`` and leaves it as it is; ``model.read`` advances it.
Letters: T tokens of a text, V vocabulary, H hidden.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.data.document_pools import begin_of_documents
from pipeline.data.streams import part_of
from pipeline.data.tokenizer import EOS, Ids, Tokenizer
from pipeline.data.utf8 import is_text
from pipeline.data.windows import IGNORED, Resets, Window
from pipeline.errors import UserError
from pipeline.evaluate.type_classes import Place, groups_of_types, places_of
from pipeline.evaluate.words import WORD_BOUNDARIES, Before, Row, WordBoundary, Words
from pipeline.generate.text import ids_of_prompt
from pipeline.generate.writing import Begin, generate_batch
from pipeline.model.ends import resets_within, without_ended
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.options import AS_IS, Sampling
from pipeline.scoring import scored_windows
from pipeline.training import checkpoint

# texts that are scored side by side, and tokens of a window
ROWS_AT_ONCE, WINDOW_TOKENS = 32, 512


@dataclass(frozen=True)
class Surprisal:
    """−ln p of each token of a text, and of each word according to the convention that was asked for."""

    text: str
    tokens: list[str]
    nats: np.ndarray  # (T,) float64
    words: list[tuple[str, float]]
    num_unknown: int  # tokens that are <unk>, whose nats are not those of the text that stands there

    @property
    def total(self) -> float:
        """Nats of the whole text."""
        return float(self.nats.sum())

    @property
    def perplexity(self) -> float:
        """exp of the mean nats per token; nan for a text without tokens."""
        return math.exp(self.nats.mean()) if len(self.nats) else math.nan


class Model:
    """A trained model with its tokenizer and its configuration, ready for use."""

    def __init__(self, loaded: checkpoint.Loaded) -> None:
        self.model: LanguageModel = loaded.model
        self.tokenizer: Tokenizer = loaded.tokenizer
        self.config: Config = loaded.config
        self.facts = dict(loaded.manifest)
        self.path = loaded.path
        self._state: Begin | None = None  # None: the start

    @property
    def start(self) -> Begin:
        """Where a text begins: a zero state that reads the end of a text first."""
        is_documents = self.config.data.layout == "documents"
        token = begin_of_documents(self.tokenizer) if is_documents else int(self.tokenizer.start_ids[0])
        return Begin(self.model.initial_state(1), token)

    @property
    def state(self) -> Begin:
        """Where every call begins. Assign an earlier value of it, or ``start``, to go back there."""
        return self._state or self.start

    @state.setter
    def state(self, state: Begin) -> None:
        self._state = state

    def read(self, text: str) -> Begin:
        """Read ``text`` from ``state`` on, move ``state`` to the end of it, and return it."""
        ids = self.ids(text)
        if not len(ids):
            return self.state
        parts = self.state.parts
        with evaluating(self.model):
            for inputs, segments in self._windows(ids[:-1]):
                _, parts = self.model(inputs, parts, segments)
                parts = without_ended(self.model, inputs[-1], parts)
        self.state = Begin(parts, int(ids[-1]), self.state.position + len(ids))
        return self.state

    def ids(self, text: str) -> Ids:
        """(T,) token ids of ``text``, which may continue after its end.

        Raises:
            UserError: all are unknown, or ``text`` has half of a character.
        """
        return self._ids([text])[0]

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each of ``texts``, not all of which may be unknown. Raises ``UserError``."""
        for text in texts:
            if not is_text(text):
                raise UserError(f"{text[:80]!r} is not UTF-8")
        found = [ids_of_prompt(self.tokenizer, text).astype(np.int64) for text in texts]
        unknown = self.tokenizer.unk_id
        if unknown is not None and any(map(len, found)) and all(all(ids == unknown) for ids in found):
            raise UserError(f"the model knows no {self.tokenizer.unit} of {' '.join(texts)[:80]!r}")
        return found

    def log_probs(self, text: str) -> np.ndarray:
        """(T + 1, V) float32: row t is ln p of every type at the place of token t; the last row, of what follows."""
        rows: list[Tensor] = []
        parts = self.state.parts
        with evaluating(self.model):
            for inputs, segments in self._windows(self.ids(text)):
                hidden, parts = self.model(inputs, parts, segments)
                rows.append(self.model.head.logits(hidden[:, 0]).log_softmax(-1).cpu())
        return torch.cat(rows).numpy()

    def next(self, text: str = "", k: int = 10) -> list[tuple[str, float]]:
        """The ``k`` likeliest tokens after ``text`` with their probabilities, the likeliest first.

        Raises:
            UserError: a ``k`` below 0, or a ``text`` as in ``ids``.
        """
        if k < 0:
            raise UserError(f"k: must be at least 0, not {k}")  # no option of a command has this name
        probabilities = np.exp(self.log_probs(text)[-1])
        best = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.token_text(int(i)), float(probabilities[i])) for i in best]

    def token_text(self, token: int) -> str:
        """The text that one token stands for; bytes that are no whole character become U+FFFD."""
        return EOS if token == self.tokenizer.eos_id else self.tokenizer.decode_bytes(token).decode(errors="replace")

    def surprisal(self, texts: str | Sequence[str], *, word_boundary: WordBoundary = "corrected") -> list[Surprisal]:
        """The nats of each token and word of ``texts``, each read by itself from ``state``.

        Args:
            word_boundary: which word the white space between two belongs to, as in ``jobs.evaluate --word-boundary``.

        Raises:
            UserError: there is no such convention, or nothing in ``texts`` is known.
        """
        if word_boundary not in WORD_BOUNDARIES:
            raise UserError(f"{word_boundary!r} is not one of {', '.join(WORD_BOUNDARIES)}", argument="word_boundary")
        texts = [texts] if isinstance(texts, str) else list(texts)
        ids = self._ids(texts)
        found: list[Surprisal | None] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(ids[i]))
        for start in range(0, len(texts), ROWS_AT_ONCE):
            rows = order[start : start + ROWS_AT_ONCE]
            for i, places in zip(rows, self._places([ids[i] for i in rows]), strict=True):
                found[i] = self._surprisal(texts[i], ids[i], places, word_boundary)
        return [item for item in found if item is not None]

    def hidden_states(self, text: str) -> list[np.ndarray]:
        """For each layer, the first one first: (T, H) float32, what it passes on after each token of ``text``."""
        layers: list[list[Tensor]] = [[] for _ in self.model.recurrence.layers]
        parts = self.state.parts
        with evaluating(self.model):
            for inputs, segments in self._windows(self.ids(text)):
                outputs: list[Tensor] = []
                _, parts = self.model.recurrence(self.model.embedding(inputs), parts, segments, outputs=outputs)
                for layer, output in zip(layers, outputs, strict=True):
                    layer.append(output[:, 0].cpu())
        return [torch.cat(layer)[1:].float().numpy() for layer in layers]

    def generate(
        self,
        prompts: str | Sequence[str] = "",
        *,
        num_tokens: int = 100,
        seed: int = 1,
        sampling: Sampling = AS_IS,
        stops: str | Sequence[str] = (),
    ) -> list[str]:
        """The text after each of ``prompts``, the same for the same seed; equal prompts give different texts.

        Args:
            sampling: temperature, top_k, top_p, min_p, repetition_penalty.
            stops: a string, or several, at which a text ends, without it.

        Raises:
            UserError: a prompt contains nothing that the tokenizer knows.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        written = generate_batch(
            self.model,
            self.tokenizer,
            prompts,
            num_tokens=num_tokens,
            seed=seed,
            sampling=sampling,
            stops=[stops] if isinstance(stops, str) else stops,
            layout=self.config.data.layout,
            begin=None if self._is_at_start else self._state,
        )
        return [item.text for item in written]

    def _windows(self, ids: Ids) -> Iterator[tuple[Tensor, Segments | None]]:
        """Yield ``state``'s token and ``ids`` in windows of (T, 1), and where in each the state becomes zero."""
        whole = torch.from_numpy(np.append(self.state.token, ids).astype(np.int64)).unsqueeze(1)
        resets = self._resets(whole, 1)
        for begin in range(0, len(whole), WINDOW_TOKENS):
            window = whole[begin : begin + WINDOW_TOKENS].to(self.model.device)
            own = part_of(resets, begin, begin + WINDOW_TOKENS)
            yield window, None if own is None else Segments(own, device=window.device)

    def _resets(self, ids: Tensor, num_rows: int) -> Resets | None:
        """(B, T) where states become zero in rows that are read from ``state`` on; (T, 1) ``ids`` are the longest."""
        found = resets_within(self.model, ids, self.state.position)
        return None if found is None else found.T.repeat(num_rows, axis=0)

    def _places(self, rows: Sequence[Ids]) -> list[list[Place]]:
        """What the model predicts at each of the T places of each of ``rows``, and at the place after them: T + 1.

        The rows are read side by side; the longest comes first.
        """
        num_steps = len(rows[0]) + 1
        tokens = np.full((num_steps, len(rows)), self.state.token, dtype=np.int64)
        targets = np.full((num_steps, len(rows)), IGNORED, dtype=np.int64)
        for column, ids in enumerate(rows):
            tokens[1 : len(ids) + 1, column] = targets[: len(ids), column] = ids
        resets = self._resets(torch.from_numpy(tokens[:, :1]), len(rows))
        windows = (
            Window(tokens[start:end], targets[start:end], position=start, next_position=end, begins=False,
                   resets=part_of(resets, start, end))
            for start, end in pairwise([*range(0, num_steps, WINDOW_TOKENS), num_steps])
        )  # fmt: skip
        parts = tuple(part.expand(-1, len(rows), -1).contiguous() for part in self.state.parts)
        groups = groups_of_types(self.tokenizer, self.model)
        scored = list(scored_windows(self.model, windows, state=parts, groups=groups))
        return [
            [place for part in scored for place in places_of(part, column)][: len(ids) + 1]
            for column, ids in enumerate(rows)
        ]

    def _surprisal(self, text: str, ids: Ids, places: list[Place], word_boundary: WordBoundary) -> Surprisal:
        words, tokens = Words(self.tokenizer, word_boundary, before=self._before), []
        rows: list[Row] = []
        *places, after = places
        for token, place in zip(ids.tolist(), places, strict=True):
            data = EOS.encode() if token == self.tokenizer.eos_id else self.tokenizer.decode_bytes(token)
            tokens.append(data.decode(errors="replace"))
            rows += words.push(token, data, 0, place)
        named = [(row.data.decode(errors="replace"), row.nats) for row in [*rows, *words.finish(after)]]
        return Surprisal(
            text,
            tokens,
            np.array([place.nats for place in places]),
            [(name.strip() or name, value) for name, value in named],
            0 if self.tokenizer.unk_id is None else int((ids == self.tokenizer.unk_id).sum()),
        )

    @property
    def _is_at_start(self) -> bool:
        """Whether ``state`` equals ``start``, even if it was assigned."""
        state, start = self.state, self.start
        return state.token == start.token and not any(bool(part.any()) for part in state.parts)

    @property
    def _before(self) -> Before:
        """What comes before a text that is read from ``state`` on."""
        token = self.state.token
        if token == self.tokenizer.eos_id or self._is_at_start:
            return Before.START
        return Before.CLOSED if self.tokenizer.decode_bytes(token)[-1:].isspace() else Before.OPEN


def load(path: str | Path, *, device: str = "cpu") -> Model:
    """The model of a run (its best checkpoint), of a checkpoint, or of a folder that ``jobs.compress`` wrote.

    Raises:
        UserError: there is no complete model at ``path``.
    """
    loaded = checkpoint.load_model(path, device)
    for remark in loaded.remarks:
        warnings.warn(remark, stacklevel=2)
    return Model(loaded)
