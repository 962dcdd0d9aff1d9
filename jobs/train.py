"""Train a language model; prepare the corpus first if necessary.

The same command again continues a stopped run from its last checkpoint.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.shared import early
from jobs.shared.cli import config_from, executor, print_dry_run, run_job
from jobs.shared.options import command_line, parser

if TYPE_CHECKING:
    from pipeline.config import Config


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    config = config_from(arguments)
    early.check(config)

    from pipeline.dry_run import dry_run

    if arguments.dry_run:
        return print_dry_run(config, dry_run(config))
    again = command_line("train", [argument for argument in argv if argument != "--fresh"])
    result = train(config, again=again, fresh=arguments.fresh, verbose=arguments.verbose)
    print_result(config, result)
    return result


def argument_parser() -> argparse.ArgumentParser:
    result = parser("train", __doc__ or "")
    result.add_argument("--fresh", action="store_true", help="start over; what is there is set aside")
    return result


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
        progress.say(f"training stopped: {stopped}; to go on from the last checkpoint:\n  {again}")
        raise SystemExit(1) from None
    finally:
        progress.close()


def print_result(config: Config, result: dict[str, Any]) -> None:
    """Print the figures of a finished run, a sample, and what to do next."""
    from jobs.terminal.progress import duration
    from pipeline.training.directory import RunDirectory
    from pipeline.training.monitor import read

    directory = config.run.directory
    bits = f", {result['bits_per_byte']:.3f} bits per byte" if result["bits_per_byte"] is not None else ""
    if result["perplexity"] is not None:
        print(f"\nvalidation perplexity {result['perplexity']:,.2f}{bits}")
    words = f", {result['words']:,} words" if "words" in result else ""
    print(f"{result['tokens']:,} tokens{words} in {result['steps']:,} steps, {duration(result['seconds'])}")
    samples = [record["text"] for record in read(RunDirectory(str(directory)).metrics) if record["kind"] == "sample"]
    if samples:
        print(f"\nthe model writes:\n{samples[-1]}\n")
    print(f"best checkpoint: {result['checkpoint']}")
    prompt = ["--prompt", config.run.sample_prompt] if config.run.sample_prompt else []
    again = command_line("generate", ["--run", str(directory), *prompt, "--tokens", "200", "--seed", "1"])
    print(f"write more:      {again}")
    print(f"TensorBoard:     tensorboard --logdir {directory}")


if __name__ == "__main__":
    run_job(main, goes_on=True)
