"""What a search or a comparison would refuse once it has begun, found by its dry run."""

from __future__ import annotations

from pipeline.cluster.compare import MAY_DIFFER
from pipeline.cluster.continued import check_same_corpus, check_same_search
from pipeline.cluster.rules import with_budget
from pipeline.cluster.scoring import check_scorable
from pipeline.compare.plan import Comparison
from pipeline.compare.scores import split_of
from pipeline.config import Config
from pipeline.data.counting import Counts
from pipeline.paths import absolute
from pipeline.search.corpora import check_budget, check_comparable, has_other_tokens
from pipeline.search.journal import COMPARISON, read_journal
from pipeline.search.paths import absolute_with_space
from pipeline.search.population import check_interval
from pipeline.search.space import Space
from pipeline.search.standing import Standing
from pipeline.status import check_scored
from pipeline.training.directory import RunDirectory


def check_search(config: Config, space: Space, counts: Counts, *, budget_tokens: int) -> None:
    """Find what ``search`` would refuse once its corpus is prepared, as far as that can be told before.

    Args:
        budget_tokens: that a trial trains on if nothing stops it.

    Raises:
        UserError: as ``search``.
    """
    config = absolute_with_space(config)
    directory = RunDirectory(str(config.run.directory))
    check_same_search(directory, config)
    if counts.is_exact:  # an estimate refuses nothing
        check_interval(config, budget_tokens)
        check_scored("valid", counts.tokens["valid"])
    if has_other_tokens(space):
        check_budget(with_budget(config))
    if counts.prepared is not None:
        check_same_corpus(read_journal(directory.path), counts.prepared)
        if has_other_tokens(space):
            check_comparable(with_budget(config), counts.prepared)


def check_comparison(config: Config, counts: Counts, comparison: Comparison) -> None:
    """Raise ``UserError`` for a run directory that cannot continue as the ``comparison`` of ``config``."""
    config = absolute(config)
    directory = RunDirectory(str(config.run.directory))
    check_same_search(directory, config, what=COMPARISON, may_differ=MAY_DIFFER)
    if counts.prepared is not None:
        check_same_corpus(read_journal(directory.path), counts.prepared, what=COMPARISON)
    standing = Standing.of(read_journal(directory.path))
    check_scorable(comparison, standing, directory, split=split_of(counts.tokens, config))
