"""Train a language model; prepare the corpus first if necessary.

The same command continues a stopped run from its last checkpoint.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.shared import early
from jobs.shared.cli import config_from, executor, print_dry_run, run_job
from jobs.shared.numbers import END_OF_TRAIN_SEEDS
from jobs.shared.numbers import seeds as number_or_list
from jobs.shared.options import command_again, command_line, parser
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config import Config

FORMS = {"perplexity": ",.2f", "bits_per_byte": ".4f"}  # of the figures of several seeds


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    config = config_from(arguments)
    seeds = seeds_of(arguments, config)
    if seeds:
        from pipeline.paths import of_seed

        early.check(of_seed(config, seeds[0]))  # the others have the same texts
    else:
        early.check(config)
    early.check_apart(config)
    early.note_unused(config)

    if arguments.dry_run:
        return print_dry_run(config, preview(config, seeds, fresh=arguments.fresh))
    again = command_again("train", [argument for argument in argv if argument != "--fresh"])
    how: dict[str, Any] = {"again": again, "fresh": arguments.fresh, "verbose": arguments.verbose}
    if seeds:
        result = train_seeds(config, seeds, **how)
        print_seeds(config, result)
    else:
        result = train(config, **how)
        print_result(config, result)
    return result


def preview(config: Config, seeds: list[int], *, fresh: bool) -> dict[str, Any]:
    """Return what a run, or one for each of ``seeds``, would be. Raises ``UserError`` for what would be refused."""
    from pipeline import launch, resources
    from pipeline.cluster.address import address_of
    from pipeline.data.counting import count_tokens
    from pipeline.dry_run import dry_run
    from pipeline.paths import of_seed

    if config.cluster.backend == "local" or not address_of(config.cluster):
        resources.check_here(config.cluster)
    counts = count_tokens(config)
    figures = dry_run(config, counts)
    for one in [of_seed(config, seed) for seed in seeds] or [config]:
        launch.check_ahead(one, counts, fresh=fresh, start_over="--fresh")
    return {**figures, **({"seeds": seeds} if seeds else {})}


def argument_parser() -> argparse.ArgumentParser:
    result = parser("train", __doc__ or "")
    result.add_argument("--fresh", action="store_true", help="start over; what is there is set aside")
    result.add_argument(
        "--seeds", type=number_or_list, metavar="N", help="N runs, or one for each of seeds such as 1,2,5; their mean"
    )
    return result


def seeds_of(arguments: argparse.Namespace, config: Config) -> list[int]:
    """Return the seeds of --seeds, counted from train.seed if it is a number; none without it.

    Raises:
        UserError: they would go beyond the last seed that there is.
    """
    found, first = arguments.seeds, config.train.seed
    if not isinstance(found, int):
        return found or []
    if first + found > END_OF_TRAIN_SEEDS:
        raise UserError(f"--seeds: {found} from train.seed={first} go beyond {END_OF_TRAIN_SEEDS - 1}, the last one")
    return list(range(first, first + found))


def train(config: Config, *, again: str, fresh: bool = False, verbose: bool = False) -> dict[str, Any]:
    """Train and show progress. If training is interrupted, print the command ``again``, which continues it."""
    from jobs.terminal.progress import RunProgress, ShardProgress
    from pipeline import launch

    progress, shards = RunProgress(), ShardProgress()
    try:
        return launch.train(
            config,
            partial(executor, verbose=verbose),
            fresh=fresh,
            start_over="--fresh",
            on_record=progress.show,
            on_shard=shards.show,
            say=progress.say,
        )
    except launch.InterruptedRunError as interrupted:
        progress.say(f"{interrupted}; to continue:\n  {again}")
        raise SystemExit(128 + interrupted.signum) from None
    except launch.TrainingStoppedError as stopped:
        progress.say(f"training stopped: {stopped}; to continue from the last checkpoint:\n  {again}")
        raise SystemExit(1) from None
    finally:
        progress.close()


def train_seeds(
    config: Config, seeds: list[int], *, again: str, fresh: bool = False, verbose: bool = False
) -> dict[str, Any]:
    """Train with each of ``seeds``, as ``train`` does; return ``pipeline.repeats.summary``."""
    from threading import Lock

    from jobs.terminal.progress import MovingLine, SeedProgress, ShardProgress
    from pipeline import repeats
    from pipeline.launch import TrainingStoppedError

    line, lock = MovingLine(), Lock()
    try:
        return repeats.train(
            config,
            seeds,
            partial(executor, verbose=verbose),
            fresh=fresh,
            start_over="--fresh",
            listener=lambda seed: SeedProgress(seed, line, lock),
            on_shard=ShardProgress().show,
            say=line.say,
        )
    except repeats.InterruptedSeedsError as interrupted:
        line.say(f"{interrupted}; to continue:\n  {again}")
        raise SystemExit(128 + interrupted.signum) from None
    except TrainingStoppedError as stopped:
        line.say(f"training stopped: {stopped}; to continue from the last checkpoints:\n  {again}")
        raise SystemExit(1) from None
    finally:
        line.close()


def print_seeds(config: Config, found: dict[str, Any]) -> None:
    """Print a line for each run, and the mean of all with its interval."""
    from jobs.terminal.progress import duration
    from pipeline.repeats import SUMMARY, TABLE

    def row(name: object, figures: list[str], length: str = "") -> None:
        print(f"{name:>11}  {figures[0]:>21}  {figures[1]:>16}  {length}".rstrip())

    def shown(name: str, *values: float | None) -> str:
        return " to ".join(format(value, FORMS[name]) for value in values if value is not None)

    print()
    row("seed", ["validation perplexity", "bits per byte"], "tokens, steps, time")
    for run in found["runs"]:
        length = f"{run['tokens']:,}, {run['steps']:,}, {duration(run['seconds'])}"
        row(run["seed"], [shown(name, run[name]) for name in FORMS], length)
    row("mean", [shown(name, found["mean"][name]) for name in FORMS])
    row("95 % CI", [shown(name, *found["interval"][name] or ()) for name in FORMS])
    directory = config.run.directory
    print(f"\nthe same as files: {directory}/{TABLE}, {directory}/{SUMMARY}")
    print(f"TensorBoard:       tensorboard --logdir {directory}")


def print_result(config: Config, result: dict[str, Any]) -> None:
    """Print the figures of a finished run and what its best checkpoint writes, and say what to do next."""
    from jobs.terminal.progress import duration
    from pipeline.training.directory import RunDirectory
    from pipeline.training.monitor import read
    from pipeline.training.selection import step_of

    directory = config.run.directory
    bits = f", {result['bits_per_byte']:.3f} bits per byte" if result["bits_per_byte"] is not None else ""
    if result["perplexity"] is not None:
        print(f"\nvalidation perplexity {result['perplexity']:,.2f}{bits}")
    words = f", {result['words']:,} words" if "words" in result else ""
    print(f"{result['tokens']:,} tokens{words} in {result['steps']:,} steps, {duration(result['seconds'])}")
    step = step_of(Path(result["checkpoint"]))
    records = read(RunDirectory(str(directory)).metrics)
    # of the checkpoint that the figures above are of, and with which the command below writes more
    samples = [record["text"] for record in records if record["kind"] == "sample" and record["step"] == step]
    if samples:
        print(f"\nthe model writes:\n{samples[-1]}\n")
    print(f"best checkpoint: {result['checkpoint']}")
    prompt = ["--prompt", config.run.sample_prompt] if config.run.sample_prompt else []
    again = command_line("generate", ["--run", str(directory), *prompt, "--tokens", "200", "--seed", "1"])
    print(f"write more:      {again}")
    print(f"TensorBoard:     tensorboard --logdir {directory}")


if __name__ == "__main__":
    run_job(main, goes_on=True)
