"""Score text: perplexity, surprisal, pairs, benchmarks of the field."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from jobs.evaluate.given import check_given
from jobs.shared import models
from jobs.shared.models import MODEL, add_checkpoint, add_device, device_of, load
from jobs.shared.numbers import number, seed, whole
from jobs.shared.options import OneSentenceParser, add_sampling, parser, sampling_of
from pipeline.errors import UserError
from pipeline.files import check_writable
from pipeline.options import SURPRISAL_COLUMNS, USUAL_COLUMNS, Adaptive, CacheSettings, DynamicSettings

WORD_MASS = 0.9  # the probability of next words that --columns word-entropy covers
MOST_WORDS = 5  # of the n-grams of --ngram


def main(argv: list[str]) -> dict[str, Any] | None:
    options = argument_parser()
    arguments = options.parse_args(argv)
    check(arguments, options)
    directories = arguments.runs or [arguments.run]
    arguments.run = directories[0]
    models.check(arguments, *directories[1:], *filter(None, [arguments.compare]))

    from pipeline.evaluate.surprisal import check_ending
    from pipeline.model.precision import set_tf32

    if arguments.surprisal is not None:
        if arguments.format == "table":
            check_ending(arguments.surprisal)
        check_writable(arguments.surprisal, argument="surprisal")
    loaded, *others = (load(each, arguments, device_of(arguments)) for each in directories)
    set_tf32(loaded.config.train.tf32)
    result: dict[str, Any] = {}
    for measure in measures_of(loaded, arguments, others):
        if result:
            print()
        result |= measure()
    return {**result, "checkpoint": str(loaded.path)}


def measures_of(
    loaded: Any, arguments: argparse.Namespace, others: Sequence[Any] = ()
) -> list[Callable[[], dict[str, Any]]]:
    """Return the measures that are asked for, in order. If two results have the same name, the later one wins.

    Args:
        others: the other models of ``--runs``.

    Raises:
        UserError: one of them cannot be done; nothing has been measured by then.
    """
    from jobs.evaluate import adaptation, benchmarks, continuations, measures, sentences, stimuli
    from jobs.evaluate.columns import Columns
    from pipeline.evaluate.pairs import read_pairs

    texts, runs = stimuli.read(arguments), [loaded, *others]
    own = None if texts is None else texts.stimuli
    text = cache(lambda number: measures.held_out_of(runs[number], arguments, own))  # as tokens of a model
    found: list[Callable[[], dict[str, Any]]] = []
    if arguments.benchmark is not None:
        read = benchmarks.read(arguments.benchmark)
        found.append(lambda: benchmarks.measured(read, runs, arguments))
    if arguments.surprisal is not None:
        columns = Columns.of(runs, arguments)
        sentences.schema_of(columns, texts)
        read_by = {id(one): text(number) for number, one in enumerate(runs)}
        found.append(lambda: sentences.surprisal(columns, arguments, lambda one: read_by[id(one)], texts))
    if arguments.pairs is not None:
        pairs = read_pairs(arguments.pairs, loaded.tokenizer)
        found.append(lambda: sentences.minimal_pairs(loaded, pairs))
    if arguments.bleu is not None:
        adaptation.check_layout(loaded, "bleu")
        cut = continuations.prompts_of(text(0), arguments)
        found.append(partial(continuations.bleu, loaded, arguments, sampling_of(arguments), cut))
    if adapts(arguments):
        adaptation.check_layout(loaded, "cache" if arguments.cache else "dynamic")
        adaptation.check_corpus(loaded, arguments)
        settings = adaptation_of(arguments)
        found.append(partial(adaptation.adapted, loaded, arguments, settings, text(0)))
    elif asks_for_perplexity(arguments):
        measures.check_burn_in(loaded, arguments)
        measures.check_corpus(loaded, arguments)
        other = measures.load_other(loaded, arguments)
        found.append(partial(measures.perplexity, loaded, arguments, text(0), other))
    return found


def asks_for_perplexity(arguments: argparse.Namespace) -> bool:
    """Tell whether perplexity is asked for, by one of its options or because nothing else is."""
    if adapts(arguments):
        return False
    breaks_down = arguments.breakdown and arguments.benchmark is None
    others = (arguments.benchmark, arguments.surprisal, arguments.pairs, arguments.bleu)
    return arguments.exact or breaks_down or arguments.compare is not None or all(one is None for one in others)


def adapts(arguments: argparse.Namespace) -> bool:
    """Tell whether the model should keep learning from what it is scored on."""
    return arguments.cache or (arguments.dynamic is not None and arguments.adapt is None)


def argument_parser() -> argparse.ArgumentParser:
    result = parser("evaluate", __doc__ or "", takes_config=False, topics="surprisal, bleu, dynamic")
    which = result.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="DIR", help=MODEL)
    which.add_argument("--runs", nargs="+", metavar="DIR", help="several, for --surprisal and --benchmark")
    add_checkpoint(result)
    what = result.add_mutually_exclusive_group()
    what.add_argument(
        "--split", choices=["valid", "test"], default="valid", help="of the prepared corpus; default: valid"
    )
    what.add_argument("--text", metavar="FILE", help="any text instead, split as the corpus is")
    what.add_argument("--stimuli", metavar="FILE", help="separate texts: lines, .csv, .tsv, .parquet, .jsonl")
    result.add_argument("--by-line", action="store_true", help="each line of --text is a text of its own")
    result.add_argument("--streams", type=whole, metavar="N", help="side by side; 1: exact; default: evaluate.streams")
    result.add_argument("--burn-in", type=whole, metavar="N", help="tokens read before each; default: see settings")
    result.add_argument("--exact", action="store_true", help="score on one stream as well; print the difference")
    result.add_argument("--breakdown", action="store_true", help="by count in training, by position; in parts")
    result.add_argument("--compare", metavar="DIR", help="score another run, too, with a paired test")
    result.add_argument("--surprisal", metavar="FILE", help="nats of tokens and words: a .parquet, .csv or .tsv")
    result.add_argument("--benchmark", nargs="+", metavar="NAME=FOLDER", help="published tests: blimp, syntaxgym, …")
    result.add_argument("--pairs", metavar="FILE", help="which of good and bad is likelier; JSON Lines")
    result.add_argument("--bleu", type=whole, metavar="N", help="continue N prompts of the text, and compare")
    result.add_argument("--cache", action="store_true", help="use a neural cache (Grave et al. 2017)")
    result.add_argument("--dynamic", choices=["rms", "sgd"], help="dynamic evaluation (Krause et al. 2018)")
    result.add_argument("--tune", action="store_true", help="find the settings of both on the validation split")
    result.add_argument("--seed", type=seed, default=1, metavar="S", help="of all random draws; default: 1")
    add_device(result)
    add_surprisal(result)
    add_continuations(result)
    add_adaptation(result)
    return result


def add_surprisal(parser: OneSentenceParser) -> None:
    """Add the options of the table of ``--surprisal``."""
    result = parser.topic("surprisal", "the table of --surprisal")
    result.add_argument(
        "--word-boundary",
        choices=["corrected", "preceding", "none"],
        help="which word has the white space between two; default: corrected",
    )
    result.add_argument("--regions", metavar="FILE", help="stimuli with the borders of regions: sum by region")
    result.add_argument(
        "--format", choices=["table", "neural-complexity"], default="table", help="of the file; default: table"
    )
    result.add_argument(
        "--columns",
        nargs="+",
        choices=SURPRISAL_COLUMNS,
        metavar="NAME",
        help=f"of {', '.join(SURPRISAL_COLUMNS)}; default: {', '.join(USUAL_COLUMNS)}",
    )
    result.add_argument(
        "--word-mass",
        type=number,
        default=WORD_MASS,
        metavar="X",
        help=f"probability of next words that word-entropy covers; default: {WORD_MASS}",
    )
    result.add_argument(
        "--ngram", metavar="N|FILE", help="n-grams of the training text, of up to N words; or an .arpa file"
    )
    result.add_argument(
        "--adapt",
        choices=["sentence", "document"],
        help="nats before and after learning from each, at the rate --dynamic-lr",
    )


def add_continuations(parser: OneSentenceParser) -> None:
    """Add the options of ``--bleu``."""
    result = parser.topic("bleu", "the continuations of --bleu")
    result.add_argument("--prompt-tokens", type=whole, default=32, metavar="N", help="of each prompt; default: 32")
    result.add_argument(
        "--continuation-tokens", type=whole, default=32, metavar="N", help="after each prompt; default: 32"
    )
    add_sampling(result)


def add_adaptation(parser: OneSentenceParser) -> None:
    """Add the options of models that keep learning from what they are scored on."""
    result = parser.topic("dynamic", "models that keep learning: --cache, --dynamic, --adapt")
    result.add_argument(
        "--cache-theta", type=number, default=0.2, metavar="X", help="how much similarity counts; default: 0.2"
    )
    result.add_argument(
        "--cache-weight", type=number, default=0.1, metavar="X", help="share of the cache, in [0, 1); default: 0.1"
    )
    result.add_argument(
        "--cache-window", type=whole, default=500, metavar="N", help="tokens that it remembers; default: 500"
    )
    result.add_argument("--dynamic-lr", type=number, metavar="X", help="learning rate; default: rms 0.002, sgd 0.1")
    result.add_argument(
        "--dynamic-decay", type=number, metavar="X", help="towards the trained weights; default: rms 0.02, sgd 0.001"
    )
    result.add_argument("--dynamic-epsilon", type=number, metavar="X", help="added to RMS; default: 0.001")
    result.add_argument(
        "--dynamic-segment", type=whole, default=20, metavar="N", help="tokens between two updates; default: 20"
    )


def adaptation_of(arguments: argparse.Namespace) -> Adaptive:
    """Return how the model keeps learning. Raises ``UserError`` if an option is out of its range."""
    remembered, dynamic = None, None
    if arguments.cache:
        remembered = CacheSettings(arguments.cache_theta, arguments.cache_weight, arguments.cache_window)
    if arguments.dynamic is not None:
        names = ("lr", "decay", "epsilon", "segment")
        dynamic = DynamicSettings.of(arguments.dynamic, **{n: getattr(arguments, f"dynamic_{n}") for n in names})
    return remembered, dynamic


def check(arguments: argparse.Namespace, options: argparse.ArgumentParser) -> None:
    """Raise ``UserError`` if one of ``options`` is out of range, incompatible with another one or without effect."""
    leasts = {"streams": 1, "burn_in": 0, "seed": 0, "bleu": 2, "prompt_tokens": 1, "continuation_tokens": 1}
    for name, least in leasts.items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: {value} is below {least}")
    sampling_of(arguments)
    adaptation_of(arguments)
    if arguments.tune and not adapts(arguments):
        raise UserError("--tune: there is nothing to tune without --cache or --dynamic")
    if arguments.word_boundary is not None and arguments.surprisal is None and arguments.benchmark is None:
        raise UserError("--word-boundary: is for the words of --surprisal; give that as well")
    check_stimuli(arguments)
    check_columns(arguments)
    check_runs(arguments)
    if arguments.by_line:
        if arguments.text is None:
            raise UserError("--by-line: says how --text is read; give that as well")
        if arguments.bleu is not None or adapts(arguments):
            raise UserError("--by-line: separate lines are not running text, which --bleu, --cache and --dynamic need")
    if adapts(arguments):
        for name in ("streams", "burn_in", "compare"):
            if getattr(arguments, name) not in (None, 1):
                raise UserError(f"--{name.replace('_', '-')}: --cache and --dynamic score on one stream")
        if arguments.exact or arguments.breakdown:
            raise UserError("--exact, --breakdown: do not work with --cache and --dynamic")
    check_given(arguments, options, asks_for_perplexity=asks_for_perplexity(arguments))


def check_stimuli(arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` if stimuli or the format of their table are incompatible with another option."""
    if arguments.regions is not None:
        if arguments.surprisal is None:
            raise UserError("--regions: says what --surprisal sums; give that as well")
        if arguments.text is not None or arguments.stimuli is not None:
            raise UserError("--regions: already names the stimuli; leave out --text and --stimuli")
    for option in ("stimuli", "regions"):
        if getattr(arguments, option) is not None and (arguments.bleu is not None or adapts(arguments)):
            raise UserError(f"--{option}: is not running text, which --bleu, --cache and --dynamic need")
    if arguments.format != "table":
        if arguments.surprisal is None:
            raise UserError("--format: says how --surprisal is written; give that as well")
        if arguments.regions is not None or arguments.surprisal.lower().endswith(".parquet"):
            raise UserError("--format: neural-complexity has lines of words; it takes neither --regions nor .parquet")


def check_columns(arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` if an option for the columns of ``--surprisal`` is out of range or has no effect."""
    for name in ("columns", "ngram", "adapt"):
        if getattr(arguments, name) is None:
            continue
        if arguments.surprisal is None:
            raise UserError(f"--{name}: is for the words of --surprisal; give that as well")
        if arguments.regions is not None or arguments.format != "table":
            raise UserError(f"--{name}: regions, and the format of neural-complexity, have columns of their own")
    if not 0 < arguments.word_mass < 1:
        raise UserError(f"--word-mass: {arguments.word_mass} is not between 0 and 1")
    if arguments.word_mass != WORD_MASS and "word-entropy" not in (arguments.columns or ()):
        raise UserError("--word-mass: is for --columns word-entropy; give that as well")
    if arguments.ngram is not None and arguments.ngram.isdecimal() and not 1 <= int(arguments.ngram) <= MOST_WORDS:
        raise UserError(f"--ngram: an order of {arguments.ngram} is not from 1 to {MOST_WORDS}")


def check_runs(arguments: argparse.Namespace) -> None:
    """Raise ``UserError`` if several runs are given for a measure that takes one."""
    if arguments.runs is None:
        return
    for name in ("regions", "pairs", "bleu", "compare", "cache", "exact"):
        if getattr(arguments, name):
            raise UserError(f"--{name}: takes one model; give it with --run")
    for name, takes_runs in (("dynamic", arguments.adapt), ("breakdown", arguments.benchmark)):
        if getattr(arguments, name) and takes_runs is None:
            raise UserError(f"--{name}: takes one model; give it with --run")
    if arguments.format != "table":
        raise UserError(f"--format: {arguments.format} has no columns for several runs; give one with --run")
    if arguments.benchmark is None and arguments.surprisal is None:
        raise UserError("--runs: several runs at once are for --surprisal and --benchmark; give one as well")
    models.names_of(arguments.runs, option="--runs")
