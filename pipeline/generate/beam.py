"""Beam search looks for the likeliest continuation of a prompt. Letters: K beams, V vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pipeline.config import Layout
from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.generate.sampler import NotFiniteError, read_prompt
from pipeline.generate.text import last_token, num_before, prompt_ids, text_of
from pipeline.model.ends import without_ended
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.state import select
from pipeline.model.stepper import Stepper
from pipeline.options import check_beams
from pipeline.scoring import NOT_FINITE


@dataclass(frozen=True)
class Hypothesis:
    """A continuation with its log-probability and its score, log-probability ÷ length^penalty."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


def likeliest_texts(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    num_tokens: int,
    num_beams: int,
    length_penalty: float = 1.0,
    stops: Sequence[str] = (),
    layout: Layout = "streams",
) -> Iterator[tuple[str, Hypothesis]]:
    """The text after each prompt, up to the first of ``stops``, and the whole hypothesis that it comes from.

    Raises:
        UserError: a prompt cannot be read, or an argument is out of its range; nothing has been searched by then.
    """
    numbered = [(text, f"prompt {n}" if len(prompts) > 1 else "prompt") for n, text in enumerate(prompts, start=1)]
    ids = [prompt_ids(tokenizer, text, layout=layout, argument=name) for text, name in numbered]
    for prompt, before in zip(prompts, ids, strict=True):
        found = beam_search(
            model,
            before,
            num_tokens=num_tokens,
            num_beams=num_beams,
            length_penalty=length_penalty,
            eos_id=tokenizer.eos_id,
            num_before=num_before(prompt, layout),
        )
        last = last_token(tokenizer, layout)
        yield "".join(text_of(tokenizer, found.tokens, after=prompt, stops=stops, last=last)), found


def beam_search(
    model: LanguageModel,
    ids: Ids,
    *,
    num_tokens: int,
    num_beams: int,
    length_penalty: float = 1.0,
    eos_id: int | None = None,
    num_before: int = 0,
) -> Hypothesis:
    """The best continuation of ``ids`` by score: one that ends with ``eos_id``, or has ``num_tokens`` tokens.

    Scores are divided by length^``length_penalty``, so that 0 favours short texts and 1 compares means per token
    (Wu et al. 2016, in the form of Cho et al. 2014). The search never stops early, so that it cannot miss a longer text
    that overtakes a finished one. ``num_before`` of the ``ids`` come before the text.

    Raises:
        UserError: an argument is out of its range.
        NotFiniteError: the model's outputs are not finite.
    """
    check_beams(num_beams, length_penalty)

    def score(log_probability: float, length: int) -> float:
        return log_probability / length**length_penalty

    finished: list[Hypothesis] = []
    with evaluating(model):
        logits, state = read_prompt(model, ids, position=-num_before)
        stepper = Stepper(model)
        texts: list[tuple[int, ...]] = [()]
        totals = torch.zeros(1, dtype=torch.float64, device=model.device)  # (K,)
        for length in range(1, num_tokens + 1):
            if not bool(logits.amax(1).isfinite().all()):
                raise NotFiniteError(NOT_FINITE)
            candidates = totals.unsqueeze(1) + logits.double().log_softmax(1)  # (K, V)
            if eos_id is not None:
                for text, total in zip(texts, candidates[:, eos_id].tolist(), strict=True):
                    finished.append(Hypothesis((*text, eos_id), total, score(total, length)))
                candidates[:, eos_id] = -torch.inf
            best = candidates.flatten().topk(min(num_beams, int(candidates.isfinite().sum())))
            rows, tokens = best.indices // candidates.shape[1], best.indices % candidates.shape[1]  # (K,)
            texts = [(*texts[row], token) for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)]
            totals = best.values
            if length < num_tokens:
                logits, state = stepper(tokens, select(state, rows))
                state = without_ended(model, tokens, state, [len(ids) - num_before + length] * len(tokens))
            finished = [max(finished, key=lambda h: h.score)] if finished else []
    open_ones = [
        Hypothesis(text, total, score(total, num_tokens)) for text, total in zip(texts, totals.tolist(), strict=True)
    ]
    return max(finished + open_ones, key=lambda hypothesis: hypothesis.score)
