"""Population-based training compared with random search with as many trials and tokens, with real training.

    python benchmarks/search_pbt.py --corpus FOLDER --directory DIR     # with train.txt and valid.txt

Learning rate and dropouts of a small LSTM on the characters of War and Peace are searched with ``pbt``, with random
draws whose rate is constant over a run, and with random draws and a cosine (reported whatever it shows), for each of
three seeds; the three have the same first settings. Every trial trains to the same budget, so the tokens are equal.
Goal: ``pbt`` below the best of the random draws with a constant rate, for each seed. All training is in this process on
one thread; the same command continues where it stopped, and prints what is done.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_in_process import InThisProcess

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.search.journal import begin_journal, read_journal
from pipeline.search.lives import exploits_of
from pipeline.search.standing import Standing
from pipeline.training.directory import RunDirectory

BUDGET, NUM_TRIALS, SEEDS = 1_000_000, 8, (1, 2, 3)
GENERATIONS = 10  # intervals of a run
VALIDATION_CHARACTERS = 32_768
WAYS: dict[str, dict[str, Any]] = {
    "pbt": {"search.scheduler": "pbt", "optimizer.schedule": "constant"},
    "random": {"search.scheduler": "none", "optimizer.schedule": "constant"},
    "random, cosine": {"search.scheduler": "none", "optimizer.schedule": "cosine"},
}
SETTINGS = {
    "tokenizer.kind": "char",
    "model.num_layers": 1,
    "model.hidden_size": 96,
    "model.embedding_size": 64,
    "model.embedding_range": 0.1,  # the initialisation that the recorded figures were measured with
    "model.input_gain": 1.0,
    "train.batch_size": 32,
    "train.bptt": 32,
    "train.evaluate_every_steps": 10**9,  # at the milestones and the end
    "train.clip_norm": 1.0,
    "train.keep_checkpoints": 1,
    "train.epochs": 9,
    "evaluate.streams": 64,
    "optimizer.name": "adamw",
    "run.sample_tokens": 0,
    "cluster.backend": "local",
    "cluster.cpus_per_worker": 1,
    "search.num_trials": NUM_TRIALS,
    "search.try_first": [],
    "search.space": {
        "optimizer.lr": {"loguniform": [3e-4, 3e-2]},
        "model.dropout": {"uniform": [0.0, 0.4]},
        "model.embedding_dropout": {"uniform": [0.0, 0.2]},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, type=Path, metavar="FOLDER", help="with train.txt and valid.txt")
    parser.add_argument(
        "--directory", required=True, type=Path, metavar="DIR", help="where the searches are kept, and continue"
    )
    parser.add_argument("--tokens", type=int, default=BUDGET, help="of a trial (fewer for a quick try)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    arguments = parser.parse_args()
    valid = arguments.directory / "valid.txt"
    arguments.directory.mkdir(parents=True, exist_ok=True)
    valid.write_text(
        (arguments.corpus / "valid.txt").read_text(encoding="utf-8")[:VALIDATION_CHARACTERS], encoding="utf-8"
    )
    texts = {"corpus.train": [str(arguments.corpus / "train.txt")], "corpus.valid": [str(valid)]}
    searches = {
        (seed, way): of_way(way, seed, arguments.directory, arguments.tokens, texts)
        for seed in arguments.seeds
        for way in WAYS
    }
    prepare_in_process(next(iter(searches.values())))
    # the ways take turns, so that all have come equally far if the command is stopped
    going = {key: legs(config, arguments.tokens) for key, config in searches.items()}
    while going:
        for key, search in list(going.items()):
            if next(search, None) is None:
                del going[key]
                print_table(searches)


def of_way(way: str, seed: int, directory: Path, tokens: int, texts: dict[str, Any]) -> Config:
    """The configuration of one seed's search in one way."""
    own = {
        "search.seed": seed,
        "train.seed": seed,
        "train.max_tokens": tokens,
        "train.evaluate_at_tokens": list(range(tokens // GENERATIONS, tokens, tokens // GENERATIONS)),
        "search.perturbation_interval_tokens": tokens // GENERATIONS,
        "data.directory": str(directory / "data"),
        "run.directory": str(directory / f"{way.replace(', ', '-')}-{seed}"),
    }
    return configuration.with_values(configuration.load(), {**SETTINGS, **texts, **WAYS[way], **own})


def legs(config: Config, tokens: int) -> Iterator[bool]:
    """Train a search to its end, yielding after each leg."""
    with RunDirectory(str(config.run.directory)).locked() as directory:
        directory.config.write_text(configuration.to_yaml(config), encoding="utf-8")
        begin_journal(directory.path, read_journal(directory.path))
        search = InThisProcess(config, directory, budget_tokens=tokens)
        while search.step():
            yield True


def print_table(searches: dict[tuple[int, str], Config]) -> None:
    """Print the best validation loss of each search so far, with the trials and tokens behind it."""
    print(
        f"\n{'seed':>4}  {'way':<16}{'nats per character':>20}{'perplexity':>12}{'done':>6}{'tokens':>12}{'taken':>7}"
    )
    for (seed, way), config in searches.items():
        records = read_journal(Path(str(config.run.directory)))
        standing = Standing.of(records)
        best = min((trial.best_loss for trial in standing.drawn), default=math.inf)
        print(
            f"{seed:>4}  {way:<16}{best:>20.4f}{math.exp(best):>12.3f}{standing.num_ended:>6}"
            f"{standing.num_tokens:>12,}{len(exploits_of(records)):>7}",
            flush=True,
        )


if __name__ == "__main__":
    main()
