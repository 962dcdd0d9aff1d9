"""Train the record of a track again, with its three seeds, and check that each reaches the target.

    python benchmarks/records/run.py ptb-100 --text penn-treebank
    python benchmarks/records/run.py ptb-100 --text penn-treebank --recipe mine.yaml --log mine.csv

A finished run is not trained again, and a stopped run continues, but only with the recipe that it began with. The log
has a line for each validation. Exit code 1: a seed misses the target. README.md has the rules; ``timing.py`` measures
the time of a token.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tracks import SEEDS, Track, load_recipe, parser, recipe_of, tracks

from jobs.shared.numbers import seeds as number_or_list
from jobs.train import train_seeds
from pipeline.config import Config, dump
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.paths import absolute, of_seed
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import read

# what is rounded in the log: not the figures that a target is asked of, which may lie next to it
DIGITS = {"epoch": 3, "perplexity": 3}
ALIKE = ("epoch", "tokens", "perplexity", "bits_per_byte")  # in the log and in the record of a run
COLUMNS = ("seed", *ALIKE[:2], "nats", *ALIKE[2:])
RECIPE = "recipe.json"  # in the folder of the runs: the settings that they began with


def settings_of(config: Config) -> dict[str, Any]:
    """What a recipe decides: all settings but directories, the text (its checksum is checked) and the machine."""
    values = dump(config)
    return {
        f"{section}.{name}": value
        for section in ("tokenizer", "model", "data", "train", "optimizer", "evaluate")
        for name, value in values[section].items()
        if f"{section}.{name}" not in ("data.directory", "train.seed")
    }


def keep_recipe(folder: Path, config: Config) -> None:
    """Note the recipe in ``folder``, where runs of it begin.

    ``jobs.train`` continues a run with another length, whose schedule would then be that of no recipe, and shows the
    result of a longer one that has ended: neither says what this recipe reaches.

    Raises:
        UserError: the runs in the folder began with another recipe.
    """
    path, now = folder / RECIPE, settings_of(config)
    if path.exists():
        was = json.loads(path.read_text(encoding="utf-8"))
        if other := sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name)):
            raise UserError(f"{folder}: has runs that began with another {', '.join(other)}; use another --to")
    elif any(folder.glob("seed-*")):
        raise UserError(f"{folder}: has runs, but no {RECIPE} with the recipe that they began with; use another --to")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(now, indent=1) + "\n")


def validations(config: Config, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The values of ``COLUMNS`` for each validation of each seed's run."""
    for seed in seeds:
        for record in read(RunDirectory(str(of_seed(config, seed).run.directory)).metrics):
            if record["kind"] == "valid":
                yield {"seed": seed, "nats": record["loss"], **{name: record[name] for name in ALIKE}}


def as_csv(lines: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        rounded = {name: round(line[name], digits) for name, digits in DIGITS.items() if line.get(name) is not None}
        writer.writerow({**line, **rounded})
    return stream.getvalue()


def verdict(track: Track, lines: Sequence[dict[str, Any]], seeds: Sequence[int]) -> bool:
    """Print what each seed reaches; return whether all reach the target."""
    needed = {seed: track.tokens_to_target(lines, seed) for seed in seeds}
    for seed, tokens in needed.items():
        best = min((track.figure(line) for line in lines if line["seed"] == seed), default=math.inf)
        reached = "never" if tokens is None else f"after {tokens:,} tokens"
        print(f"seed {seed}: {track.metric} {best:,.3f} at best; {track.at_most} or less {reached}")
    if None in needed.values():
        print(f"{track.name}: not a record, {list(needed.values()).count(None)} of {len(needed)} seeds miss the target")
        return False
    most = f"at most {max(tokens for tokens in needed.values() if tokens):,} tokens"
    if missing := sorted(set(SEEDS) - set(seeds)):
        print(f"{track.name}: reached, {most}; not a record yet, without seeds {', '.join(map(str, missing))}")
    else:
        print(f"{track.name}: reached by all; {most}")
    return True


def main() -> None:
    command = parser(__doc__ or "", folder_of="the runs")
    command.add_argument("--log", type=Path, help="CSV file of the validations")
    command.add_argument("--seeds", type=number_or_list, default=list(SEEDS), help="a record has at least 1,2,3")
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
        keep_recipe(folder, config)
        train_seeds(config, seeds, again=" ".join(["python", *sys.argv]))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    lines = list(validations(config, seeds))
    write_file(arguments.log or folder / "validations.csv", as_csv(lines))
    raise SystemExit(0 if verdict(track, lines, seeds) else 1)


if __name__ == "__main__":
    main()
