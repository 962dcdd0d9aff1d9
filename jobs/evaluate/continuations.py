"""Compare continuations of held-out prompts with the real ones: ``jobs.evaluate --bleu``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from jobs.terminal.progress import Count
from pipeline.data.tokenizer import Ids
from pipeline.evaluate import HeldOut
from pipeline.evaluate.quality import Variety, check_installed, cut_prompts, nearness, variety
from pipeline.generate.sampler import Sampler, numbers_among_equals
from pipeline.options import Sampling
from pipeline.training.checkpoint import Loaded

PROMPTS_AT_ONCE = 64


def prompts_of(text: HeldOut, arguments: argparse.Namespace) -> tuple[Ids, Ids]:
    """Return the (B, prompt) prompts, and the (B, continuation) tokens that follow them in ``text``.

    Raises:
        UserError: sacrebleu is not installed, or the text is too short for two prompts.
    """
    check_installed()
    return cut_prompts(
        text.tokens,
        number=arguments.bleu,
        prompt_tokens=arguments.prompt_tokens,
        continuation_tokens=arguments.continuation_tokens,
    )


def bleu(loaded: Loaded, arguments: argparse.Namespace, sampling: Sampling, cut: tuple[Ids, Ids]) -> dict[str, Any]:
    """Print and return BLEU and chrF of the model's text, and the variety of its text and of the real text.

    Args:
        cut: as ``prompts_of`` returns it.
    """
    prompts, true = cut
    copies = numbers_among_equals(prompt.tobytes() for prompt in prompts)
    written: list[list[int]] = []
    with Count("written", len(prompts) * arguments.continuation_tokens, "tokens") as progress:
        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            part = slice(start, start + PROMPTS_AT_ONCE)
            sampler = Sampler(
                loaded.model, list(prompts[part]), seed=arguments.seed, sampling=sampling, copies=copies[part]
            )
            written += continuations(sampler, arguments.continuation_tokens, progress)
    decode = loaded.tokenizer.decode
    texts, references = [decode(ids).strip() for ids in written], [decode(ids).strip() for ids in true]
    near, ours, theirs = nearness(texts, references), variety(texts), variety(references)
    print(f"{len(texts):,} continuations of {arguments.continuation_tokens} tokens after {arguments.prompt_tokens}")
    print(f"BLEU {near.bleu:.2f}, chrF {near.chrf:.2f}")
    for signature in near.signatures:
        print(f"  {signature}")
    for name, found in (("the model's text", ours), ("the real text", theirs)):
        print(f"{name}: {in_words(found)}")
    return {"bleu": near.bleu, "chrf": near.chrf, "signatures": near.signatures, "texts": len(texts),
            "variety": asdict(ours), "variety_of_true_text": asdict(theirs)}  # fmt: skip


def continuations(sampler: Sampler, num_tokens: int, progress: Count) -> list[list[int]]:
    """Write ``num_tokens`` tokens after each prompt of ``sampler``."""
    steps = []
    for _ in range(num_tokens):
        steps.append(sampler.next())
        progress.add(len(steps[-1]))
    return [list(row) for row in zip(*steps, strict=True)]


def in_words(found: Variety) -> str:
    shares = ", ".join(f"distinct-{n} {share:.3f}" for n, share in found.distinct.items())
    return f"self-BLEU {found.self_bleu:.2f}, {shares}"
