"""Search settings by validation perplexity with Ray Tune.

search.space says which settings; by default the learning rate, the hidden size
and the BPTT length. The same command continues a stopped search. Train with
best.yaml in the search's directory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobs.shared import early
from jobs.shared.cli import config_from, print_dry_run, run_job
from jobs.shared.options import command_again, command_line, parser
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.search.leaderboard import Row


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    config = config_from(arguments)
    if config.cluster.backend == "local":
        raise UserError("cluster.backend: a search runs on Ray; local is for jobs.train")
    early.check(config)
    early.check_apart(config)

    from pipeline.search.first import first_settings
    from pipeline.search.population import check_population
    from pipeline.search.samplers import sampler_of
    from pipeline.search.space import check_space, check_validation

    space = check_space(config)
    early.check_searched_models(config)
    check_population(config)
    check_validation(config)
    first_settings(config, space)
    sampler_of(config.search, space)
    early.note_unused(config, sections=["search"], varied=space)

    from jobs.terminal.progress import ShardProgress, duration
    from jobs.terminal.search import SearchProgress, continued_by
    from pipeline.cluster import rules, search
    from pipeline.cluster.ahead import check_search
    from pipeline.data.counting import count_tokens
    from pipeline.dry_run import dry_run
    from pipeline.search.leaderboard import BEST
    from pipeline.search.preview import preview
    from pipeline.search.report import REPORT

    if arguments.dry_run:
        counts = count_tokens(config)
        figures = dry_run(rules.with_budget(config), counts)
        check_search(config, space, counts, budget_tokens=figures["total_tokens"])
        worker, num_concurrent = rules.room(config)
        of_search = preview(
            config, space, vocab_size=figures["vocab_size"], budget_tokens=figures["total_tokens"],
            num_concurrent=num_concurrent, worker=worker,
        )  # fmt: skip
        time = f"{duration(of_search['estimated_seconds'])}, for training alone, at the present speed of this machine"
        return print_dry_run(config, {**figures, **of_search, "estimated_time": time})
    progress = SearchProgress(config.search.num_trials)
    with continued_by(command_again("search", argv), progress):
        rows = search.search(
            config,
            verbose=arguments.verbose,
            say=progress.say,
            on_record=progress.show,
            on_shard=ShardProgress().show,
            on_plan=progress.begin,
        )
    print_rows(rows)
    directory = config.run.directory
    print(f"\ntrain the best: {command_line('train', ['--config', f'{directory}/{BEST}'])}")
    print(f"what was found: {directory}/{REPORT}")
    print(f"TensorBoard:    tensorboard --logdir {directory}")
    return {"best": rows[0].settings, "perplexity": rows[0].perplexity, "trials": len(rows)}


def print_rows(rows: Sequence[Row]) -> None:
    """Print the leaderboard."""
    from pipeline.search.naming import describe

    print(f"\n{'perplexity':>12}  {'tokens':>12}  {'seconds':>8}  {'':<8} settings")
    for row in rows:
        shown = f"{row.perplexity:,.2f}" if row.perplexity is not None else "none"
        print(f"{shown:>12}  {row.tokens:>12,}  {row.seconds:>8,.1f}  {row.status:<8} {describe(row.settings)}")
    for row in rows:
        if not row.is_whole:
            print(f"{describe(row.settings)}: {row.status}, {row.reason}")


def argument_parser() -> argparse.ArgumentParser:
    return parser("search", __doc__ or "")


if __name__ == "__main__":
    run_job(main, goes_on=True)
