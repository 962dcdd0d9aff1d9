"""Train the record of a track again, with its three seeds, and check that each reaches the target.

    python benchmarks/records/run.py ptb-100 --text penn-treebank
    python benchmarks/records/run.py ptb-100 --text penn-treebank --recipe mine.yaml --log mine.csv

A finished run is not trained again, and a stopped run continues. The log has a line for each validation. Exit code 1: a
seed misses the target. README.md has the rules; ``timing.py`` measures the time of a token.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tracks import SEEDS, Track, load_recipe, parser, recipe_of, tracks

from jobs.shared.numbers import seeds as number_or_list
from jobs.train import train_seeds
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.paths import absolute, of_seed
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import read

COLUMNS = ("seed", "epoch", "tokens", "nats", "perplexity", "bits_per_byte")


def validations(config: Config, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A line of ``COLUMNS`` for each validation of each seed's run."""
    for seed in seeds:
        for record in read(RunDirectory(str(of_seed(config, seed).run.directory)).metrics):
            if record["kind"] == "valid":
                yield {
                    "seed": seed,
                    "epoch": round(record["epoch"], 3),
                    "tokens": record["tokens"],
                    "nats": round(record["loss"], 5),
                    "perplexity": round(record["perplexity"], 3),
                    "bits_per_byte": record["bits_per_byte"] and round(record["bits_per_byte"], 5),
                }


def tokens_to_target(track: Track, lines: Sequence[dict[str, Any]], seed: int) -> int | None:
    """Tokens that were trained on before the first validation that reaches the target; None: none does."""
    reached = [
        line["tokens"]
        for line in lines
        if line["seed"] == seed and track.figure({**line, "loss": line["nats"]}) <= track.at_most
    ]
    return min(reached, default=None)


def as_csv(lines: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def verdict(track: Track, lines: Sequence[dict[str, Any]], seeds: Sequence[int]) -> bool:
    """Print what each seed reaches; return whether all reach the target."""
    needed = {seed: tokens_to_target(track, lines, seed) for seed in seeds}
    for seed, tokens in needed.items():
        best = min(track.figure({**line, "loss": line["nats"]}) for line in lines if line["seed"] == seed)
        reached = "never" if tokens is None else f"after {tokens:,} tokens"
        print(f"seed {seed}: {track.metric} {best:,.3f} at best; {track.at_most} or less {reached}")
    if None in needed.values():
        print(f"{track.name}: not a record, {list(needed.values()).count(None)} of {len(needed)} seeds miss the target")
        return False
    print(f"{track.name}: reached by all; at most {max(tokens for tokens in needed.values() if tokens):,} tokens")
    return True


def main() -> None:
    command = parser(__doc__ or "", folder_of="the runs")
    command.add_argument("--log", type=Path, help="CSV file of the validations")
    command.add_argument("--seeds", type=number_or_list, default=list(SEEDS), help="a record has 1,2,3")
    arguments = command.parse_args()
    track = tracks()[arguments.track]
    try:
        recipe = arguments.recipe or recipe_of(track)
        folder = arguments.to / f"{track.name}-{recipe.stem}"
        changes = {
            "data.directory": str(arguments.to / f"data-{track.name}"),
            "run.directory": str(folder),
            "run.sample_tokens": 0,
            "cluster.backend": "local",
            "cluster.cpus_per_worker": 1,
        }
        config = absolute(load_recipe(track, recipe, arguments.text, changes))
        seeds = arguments.seeds if isinstance(arguments.seeds, list) else list(range(1, arguments.seeds + 1))
        train_seeds(config, seeds, again=" ".join(["python", *sys.argv]))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    lines = list(validations(config, seeds))
    write_file(arguments.log or folder / "validations.csv", as_csv(lines))
    raise SystemExit(0 if verdict(track, lines, seeds) else 1)


if __name__ == "__main__":
    main()
