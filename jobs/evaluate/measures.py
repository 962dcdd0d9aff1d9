"""The measures of ``jobs.evaluate``. Each function measures, prints the result, and returns it for ``--json``."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import Any

from jobs.shared.models import load
from jobs.terminal.progress import Count
from pipeline import metrics, run
from pipeline.data.streams import ResetRule
from pipeline.errors import UserError
from pipeline.evaluate import (
    Breakdown,
    Group,
    HeldOut,
    Score,
    compare,
    count_types,
    count_words,
    evaluate,
    perplexity_interval,
    split_held_out,
    text_held_out,
)
from pipeline.evaluate.stimuli import Stimuli, held_out_stimuli
from pipeline.training.checkpoint import Loaded


def perplexity(
    loaded: Loaded, arguments: argparse.Namespace, text: HeldOut, other: Loaded | None = None
) -> dict[str, Any]:
    """Measure the perplexity of a split or a text, and compare it with that of the ``other`` model, if any."""
    sums = Breakdown(text.tokens, loaded.tokenizer.vocab_size)
    score = scored(loaded, text, arguments, sums)
    name = arguments.text or arguments.stimuli or f"the {arguments.split} split"
    print(f"{loaded.title} on {name}: {scored_of(score, text)} in {parts_of(score)}")
    result = figures(loaded, text, score, sums, seed=arguments.seed)
    if arguments.exact:
        exact = scored(loaded, text, arguments, streams=1)
        difference = score.perplexity / exact.perplexity - 1
        figure = metrics.shown(exact.perplexity)
        print(f"on one stream: perplexity {figure}; the figure above is {100 * difference:+.3f} % off")
        result |= {"exact_perplexity": exact.perplexity, "relative_difference": difference}
    if arguments.breakdown:
        result |= breakdown(loaded, sums)
    if other is not None:
        result["compare"] = comparison(other, text, arguments, sums)
    return result


def held_out_of(loaded: Loaded, arguments: argparse.Namespace, stimuli: Stimuli | None = None) -> HeldOut:
    """Return the text that the command line names, or ``stimuli``. Raises ``UserError`` if there is none."""
    if stimuli is not None:
        return held_out_stimuli(loaded.tokenizer, stimuli)
    if arguments.text is not None:
        config, by_line = loaded.config, arguments.by_line
        return text_held_out(
            loaded.tokenizer, arguments.text, config.corpus, layout=config.data.layout, by_line=by_line
        )
    return split_held_out(run.corpus_of(loaded), arguments.split, layout=loaded.config.data.layout)


def scored(
    loaded: Loaded,
    text: HeldOut,
    arguments: argparse.Namespace,
    sums: Breakdown | None = None,
    streams: int | None = None,
) -> Score:
    """Score ``text`` with the run's settings and the options."""
    settings = loaded.config.evaluate
    with Count("scored", len(text.tokens), "tokens") as progress:
        return evaluate(
            loaded.model,
            text,
            streams=streams or arguments.streams or settings.streams,
            bptt=loaded.config.train.bptt,
            reset=ResetRule.of(loaded.config.train),
            burn_in=settings.burn_in if arguments.burn_in is None else arguments.burn_in,
            precision=loaded.config.train.precision,
            breakdown=sums,
            on_tokens=progress.add,
        )


def figures(loaded: Loaded, text: HeldOut, score: Score, sums: Breakdown, *, seed: int) -> dict[str, Any]:
    """Print and return perplexity with its interval, per word, and bits per byte."""
    low, high = perplexity_interval(*sums.per_unit(), seed=seed)
    print(f"perplexity {metrics.shown(score.perplexity)}, {score.nats_per_token:.4f} nats per token")
    print(f"95 % interval {metrics.shown(low)} to {metrics.shown(high)} (bootstrap over {sums.unit})")
    num_words, num_lines = count_words(loaded.tokenizer, text.tokens, layout=text.layout)
    per_word = metrics.perplexity(score.nats, num_words + num_lines) if num_words + num_lines else math.nan
    if loaded.tokenizer.kind != "word":
        print(f"perplexity per word {metrics.shown(per_word)} ({num_words:,} words and {num_lines:,} line ends)")
    if score.bits_per_byte is not None:
        print(f"{score.bits_per_byte:.4f} bits per byte")
    else:
        print(f"no bits per byte: {score.why_not}")
    return {
        "perplexity": score.perplexity,
        "interval": [low, high],
        "nats_per_token": score.nats_per_token,
        "word_perplexity": per_word,
        "words": num_words,
        "line_ends": num_lines,
        "bits_per_byte": score.bits_per_byte,
        "tokens": score.tokens,
        "text_tokens": len(text.tokens),
        score.layout: score.num_parts,
    }


def scored_of(score: Score, text: HeldOut) -> str:
    """Say how many tokens were scored, and why the first one was not."""
    if text.begin_id is None:
        return f"{score.tokens:,} of {len(text.tokens):,} tokens scored (nothing comes before the first)"
    return f"{score.tokens:,} tokens scored"


def parts_of(score: Score) -> str:
    return f"{score.num_parts:,} {score.layout if score.num_parts > 1 else score.layout.removesuffix('s')}"


def breakdown(loaded: Loaded, sums: Breakdown) -> dict[str, Any]:
    """Print and return perplexity by count in the training text, and by position in the document."""
    corpus = run.corpus_of(loaded)
    counts = count_types(corpus.splits["train"], corpus.vocab_size)
    result = {}
    for key, title, groups in (
        ("by_frequency", "times in training", sums.frequency_groups(counts)),
        ("by_position", "tokens before it in its document", sums.position_groups()),
    ):
        print_groups(title, groups)
        result[key] = [group.to_json() for group in groups]
    return result


def print_groups(title: str, groups: list[Group]) -> None:
    width = max(len(title), *(len(group.name) for group in groups))
    print(f"\n{title:<{width}}  {'tokens':>12}  {'perplexity':>14}")
    for group in groups:
        print(f"{group.name:<{width}}  {group.tokens:>12,}  {group.perplexity:>14,.3f}")


def are_separate(arguments: argparse.Namespace) -> bool:
    """Return whether the command line names texts that are read one by one, whatever the layout of a run is."""
    return arguments.by_line or arguments.stimuli is not None


def check_burn_in(loaded: Loaded, arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` for tokens before streams if each text is read on its own, from its beginning."""
    if arguments.burn_in is not None and (are_separate(arguments) or loaded.config.data.layout == "documents"):
        raise UserError("--burn-in: is for streams, but each of these texts is read on its own, from its beginning")


def check_corpus(loaded: Loaded, arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` if the training text, whose types --breakdown counts, is gone or has been replaced."""
    if arguments.breakdown:
        run.corpus_of(loaded)


def load_other(loaded: Loaded, arguments: argparse.Namespace) -> Loaded | None:
    """Load the model of ``--compare``, if any. Raises ``UserError`` if it has another tokenizer, or reads otherwise."""
    if arguments.compare is None:
        return None
    other = load(arguments.compare, arguments, loaded.model.device)
    if other.tokenizer.fingerprint != loaded.tokenizer.fingerprint:
        raise UserError(
            f"--compare: {arguments.compare} was trained with another tokenizer; score both and compare bits per byte"
        )
    layouts = [one.config.data.layout for one in (other, loaded)]
    if layouts[0] != layouts[1] and not are_separate(arguments):
        raise UserError(
            f"--compare: {arguments.compare} was trained with data.layout={layouts[0]}, not {layouts[1]}, and would be "
            "scored as it was not trained; score each by itself, or both on texts with --by-line or --stimuli"
        )
    return other


def comparison(other: Loaded, text: HeldOut, arguments: argparse.Namespace, sums: Breakdown) -> dict[str, Any]:
    """Score ``other`` on the same text, and print and return how the two differ."""
    others = Breakdown(text.tokens, other.tokenizer.vocab_size)
    score = scored(other, text, arguments, others)
    (nats, tokens), (other_nats, _) = sums.per_unit(), others.per_unit()
    found = compare(nats, other_nats, tokens, seed=arguments.seed)
    print(f"\n{arguments.compare}: perplexity {metrics.shown(score.perplexity)}, in {parts_of(score)}")
    print(
        f"{found.difference:+.4f} nats per token, 95 % interval {found.low:+.4f} to {found.high:+.4f}, "
        f"p = {found.p_value:.4f} (paired, over {sums.unit})"
    )
    return {"perplexity": score.perplexity, "checkpoint": str(other.path), **asdict(found)}
