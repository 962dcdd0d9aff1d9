"""A Hugging Face causal model as a teacher, from a local folder; nothing is fetched, and none of its code is run.

It has no state of fixed size, so the tokens before are carried from window to window: each window is read after the
last ``CONTEXT_TOKENS`` of its stream, or half as many tokens as the model takes if that is less. The corpus must have
the model's own tokenizer (``tokenizer.path: FOLDER/tokenizer.json``). If it ends documents with an ``<eos>``, a type
that we add after theirs, the model reads and predicts its own end of text in its place.
Letters: T time, B streams, C tokens before, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.data.tokenizer import Tokenizer
from pipeline.data.windows import Resets
from pipeline.errors import UserError
from pipeline.model.precision import autocast
from pipeline.model.state import State
from pipeline.offline import offline
from pipeline.training.teaching.models import TeacherModel

CONTEXT_TOKENS = 512
NONE = -1  # stands where a stream has no token before
# logit of a type that the model cannot say: never drawn, and 0 · this is still 0
NEVER = -1e4


def check_installed() -> None:
    """Raise ``UserError`` if transformers is missing."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError("a Hugging Face teacher needs transformers: pip install 'recurray[hf]'") from None


class HuggingFaceTeacher(TeacherModel):
    """A causal model of transformers."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, *, device: torch.device, precision: str) -> None:
        """Raises ``UserError`` for a folder without such a model in safetensors, or with other types."""
        check_installed()
        with offline() as transformers:
            try:
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
                )
            except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{folder}: not a causal model that transformers reads ({reason})") from None
        self.model: Any = model.to(device, torch.float64 if precision == "float64" else torch.float32).eval()
        self.model.requires_grad_(False)
        self.precision = precision
        self.eos_id = tokenizer.eos_id
        self.num_types = tokenizer.vocab_size - (tokenizer.eos_id is not None)  # theirs
        their_eos = _first(self.model.config.eos_token_id)
        self.their_eos = NONE if their_eos is None else their_eos
        if self.eos_id is not None and their_eos is None:
            raise UserError(
                f"{folder}: the model has no end of text to stand for the corpus's <eos>; set tokenizer.eos=none"
            )
        longest = getattr(self.model.config, "max_position_embeddings", None) or 2 * CONTEXT_TOKENS
        self.context = min(CONTEXT_TOKENS, longest // 2)
        self.most_read = longest - self.context
        found = self.model.get_output_embeddings().weight.shape[0]
        if found < self.num_types:
            raise UserError(f"{folder}: the model has {found:,} types, its tokenizer {self.num_types:,}")
        if self.their_eos >= found:
            raise UserError(
                f"{folder}: eos_token_id in config.json is {self.their_eos}, but the model has {found:,} types"
            )

    def initial_state(self, num_rows: int) -> State:
        device = self.model.device
        return (torch.full((self.context, num_rows), NONE, device=device),)

    def read(self, inputs: Tensor, state: State, resets: Resets | None) -> tuple[Tensor, State]:
        (history,) = state  # (C, B), the latest last
        if self.eos_id is not None:
            inputs = torch.where(inputs == self.eos_id, self.their_eos, inputs)
        found: Tensor | None = None
        end = history.clone()
        groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        tokens = torch.cat([history, inputs])  # (C + T, B)
        for column, stretches in enumerate(_stretches(history, resets, len(inputs))):
            for first, begin, stop in stretches:
                for piece in range(begin, stop, self.most_read):
                    before = min(piece - first, self.context)
                    groups[before, piece, min(stop, piece + self.most_read)].append(column)
            last = stretches[-1][0]
            kept = tokens[max(last + self.context, len(inputs)) :, column]
            end[:, column] = NONE
            end[self.context - len(kept) :, column] = kept
        for (before, begin, stop), columns in groups.items():
            own = tokens[self.context + begin - before : self.context + stop, columns]  # (before + n, rows)
            with torch.no_grad(), autocast(self.precision, inputs.device):
                logits = self.model(input_ids=own.t(), use_cache=False).logits  # (rows, before + n, V)
            if found is None:
                found = logits.new_empty(*inputs.shape, logits.shape[-1])
            found[begin:stop, columns] = logits[:, before:].transpose(0, 1)
        assert found is not None
        return found, (end,)

    def logits(self, hidden: Tensor) -> Tensor:
        logits = hidden if hidden.dtype == torch.float64 else hidden.float()
        theirs = logits[:, : self.num_types]
        if self.eos_id is None:
            return theirs
        theirs = theirs.clone()
        own = theirs[:, self.their_eos, None].clone()
        theirs[:, self.their_eos] = NEVER
        return torch.cat([theirs, own], dim=1)


def _first(ids: Any) -> int | None:
    return ids[0] if isinstance(ids, list) else ids


def _stretches(history: Tensor, resets: Resets | None, num_steps: int) -> Iterator[list[tuple[int, int, int]]]:
    """Yield (first, begin, stop) of each stream: inputs ``begin`` to ``stop`` are read after the tokens from ``first``.

    Places count from the window's beginning; those before it are negative.
    """
    num_before = (history != NONE).sum(0).tolist()
    for column, number in enumerate(num_before):
        cuts = [] if resets is None else [int(step) for step in resets[:, column].nonzero()[0]]
        if cuts and cuts[0] == 0:
            number, cuts = 0, cuts[1:]
        bounds = [0, *cuts, num_steps]
        yield [(-number if a == 0 else a, a, b) for a, b in pairwise(bounds)]
