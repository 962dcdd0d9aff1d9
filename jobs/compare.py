"""Compare variants of a model at equal parameters, tokens and time.

compare.variants names them; the width of each is chosen for compare.parameters,
and each is trained with each of compare.seeds. The same command continues a
stopped comparison. It ends with a table and a page in run.directory.
"""

from __future__ import annotations

import argparse
from math import exp
from typing import TYPE_CHECKING, Any

from jobs.shared import early
from jobs.shared.cli import config_from, print_dry_run, run_job
from jobs.shared.options import command_again, parser
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.compare.findings import Findings
    from pipeline.compare.plan import Comparison
    from pipeline.config import Config


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    config = config_from(arguments)
    if config.cluster.backend == "local":
        raise UserError("cluster.backend: a comparison runs on Ray; local is for jobs.train")

    from pipeline.compare.variants import check_comparison, unused

    variants, search = check_comparison(config)
    early.check(config)
    early.check_apart(config)
    early.note(unused(config, variants, search))
    if arguments.dry_run:
        return print_dry_run(config, preview(config))

    from jobs.terminal.progress import ShardProgress
    from jobs.terminal.search import SearchProgress, continued_by
    from pipeline.cluster import compare
    from pipeline.compare.sentences import sentences
    from pipeline.compare.table import rows_of

    progress = SearchProgress()
    with continued_by(command_again("compare", argv), progress):
        found = compare.compare(
            config,
            verbose=arguments.verbose,
            say=progress.say,
            on_record=progress.show,
            on_shard=ShardProgress().show,
            on_plan=progress.begin,
        )
    print_findings(config, found)
    return {"sentences": sentences(found), "rows": rows_of(found)}


def preview(config: Config) -> dict[str, Any]:
    """Return what a comparison would be: each variant's width and parameters, runs, tokens. Writes nothing.

    Raises:
        UserError: for what the comparison would refuse once its corpus is prepared.
    """
    from functools import partial

    from pipeline.cluster import ahead, rules
    from pipeline.compare.checks import check_runs
    from pipeline.compare.plan import Comparison
    from pipeline.compare.variants import check_comparison
    from pipeline.data.counting import count_tokens
    from pipeline.dry_run import counted_data
    from pipeline.training.horizon import total_tokens

    counts = count_tokens(config)
    data = counted_data(config, counts)
    tokens = total_tokens(config.train, data)
    variants, search = check_comparison(config)
    comparison = Comparison.of(config, variants, search, vocab_size=counts.vocab_size, tokens=tokens)
    ahead.check_comparison(config, counts, comparison)
    data_of = partial(counted_data, counts=counts)
    check_runs(config, comparison, num_tokens=counts.tokens, are_counted=counts.is_exact, data_of=data_of)
    rules.room(config)
    return {
        "vocab_size": counts.vocab_size,
        **{f"{one.name} at {one.target:,}": size_in_words(one) for one in comparison.sizes},
        "runs": comparison.num_runs,
        "tokens_of_all_runs": comparison.total_tokens,
        "tokens_of_a_run": described(comparison),
    }


def size_in_words(one: Any) -> str:
    """Return ``model.hidden_size=227, 999,123 parameters (812,345 without embedding and head)``."""
    return (
        f"model.hidden_size={one.width}, {one.size.parameters:,} parameters "
        f"({one.size.recurrence:,} without embedding and head)"
    )


def described(comparison: Comparison) -> str:
    return ", ".join(f"{tokens:,}" for tokens in comparison.lengths)


def print_findings(config: Config, found: Findings) -> None:
    """Print the table, the sentences and the path of the page."""
    from pipeline.compare.page import PAGE
    from pipeline.compare.sentences import sentences
    from pipeline.compare.table import TABLE

    for group in found.groups:
        print(f"\n{group.group.target:,} parameters, {group.group.tokens:,} tokens")
        print("  perplexity  at equal time   tokens/s  hidden size   parameters  variant")
        for row in group.rows:
            at_time = group.at_time.get(row.name)
            timed = "" if at_time is None else f"{exp(at_time):,.3f}"
            print(
                f"{row.confirmed.perplexity:>12,.3f}  {timed:>13}  {row.cost.tokens_per_second:>9,.0f}  "
                f"{row.sized.width:>11,}  {row.sized.size.parameters:>11,}  {row.name}"
            )
    for heading, lines in sentences(found).items():
        print(f"\n{heading}")
        for line in lines:
            print(f"  {line}")
    print(f"\npage:  {config.run.directory}/{PAGE}")
    print(f"table: {config.run.directory}/{TABLE}")


def argument_parser() -> argparse.ArgumentParser:
    return parser("compare", __doc__ or "")


if __name__ == "__main__":
    run_job(main, goes_on=True)
