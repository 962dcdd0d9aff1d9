"""How close generated texts are to the real ones (BLEU, chrF), and how varied (distinct-n, self-BLEU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np

from pipeline.data.tokenizer import Ids
from pipeline.data.windows import Tokens
from pipeline.errors import UserError

# texts that self-BLEU compares, each with all others
MOST_COMPARED = 100


@dataclass(frozen=True)
class Variety:
    """Self-BLEU (Zhu et al. 2018), low if texts differ; distinct-n (Li et al. 2016), the share of distinct n-grams."""

    self_bleu: float
    distinct: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Nearness:
    """Corpus BLEU (Papineni et al. 2002) and chrF (Popović 2015), with sacrebleu's signatures."""

    bleu: float
    chrf: float
    signatures: list[str]


def cut_prompts(tokens: Tokens, *, number: int, prompt_tokens: int, continuation_tokens: int) -> tuple[Ids, Ids]:
    """Return (number, prompt) and (number, continuation) ids from places spread evenly over ``tokens``.

    Raises:
        UserError: the text is too short for two prompts, the fewest that can be compared.
    """
    length = prompt_tokens + continuation_tokens
    places = len(tokens) - length + 1
    if places < 2:
        raise UserError(
            f"the text has {len(tokens):,} tokens, too few for two prompts of {prompt_tokens:,} tokens with "
            f"continuations of {continuation_tokens:,}",
            argument="bleu",
        )
    starts = np.unique(np.linspace(0, places - 1, min(number, places)).astype(np.int64))
    rows = tokens.rows(starts, length)
    return rows[:, :prompt_tokens], rows[:, prompt_tokens:]


def nearness(texts: Sequence[str], references: Sequence[str]) -> Nearness:
    """Compare each of ``texts`` with the real continuation. Raises ``UserError`` without sacrebleu."""
    sacrebleu = _sacrebleu()
    found, signatures = [], []
    for metric in (sacrebleu.BLEU(), sacrebleu.CHRF()):
        result = metric.corpus_score(list(texts), [list(references)])
        found.append(result.score)
        signatures.append(f"{result.name}|{metric.get_signature()}")
    return Nearness(found[0], found[1], signatures)


def variety(texts: Sequence[str]) -> Variety:
    """Compare ``texts`` with each other. Raises ``UserError`` without sacrebleu."""
    metric = _sacrebleu().BLEU(effective_order=True)
    some = list(texts[:MOST_COMPARED])
    scores = [metric.sentence_score(text, some[:i] + some[i + 1 :]).score for i, text in enumerate(some)]
    return Variety(mean(scores), {n: distinct(texts, n) for n in (1, 2, 3)})


def distinct(texts: Sequence[str], n: int) -> float:
    """Return the number of distinct n-grams of words over that of all n-grams; 0 if there are none."""
    grams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def check_installed() -> None:
    """Raise ``UserError`` without sacrebleu."""
    _sacrebleu()


def _sacrebleu() -> Any:
    try:
        import sacrebleu.metrics
    except ImportError:
        raise UserError("needs sacrebleu; install it with pip install 'recurray[bleu]'", argument="bleu") from None
    return sacrebleu.metrics
