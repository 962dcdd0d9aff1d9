"""Compare variants on Ray: their runs are trials of a search engine; then each is scored, and its cost measured.

compare.variants → equal parameters → trials (like those of a search, see ``search``) → scores, costs → tables and page

    <run.directory>/config.yaml         the settings of the comparison
    <run.directory>/search.jsonl        its journal, like that of a search
    <run.directory>/trials/<name>/      a run directory like any other
    <run.directory>/scores/…            the score of each trained model on the held-out text
    <run.directory>/costs.json          the costs of the models, measured in turns in one process
    <run.directory>/comparison.html     the page; table.csv and pairs.csv beside it

``pipeline.compare`` says which runs there are; ``search.run_trials`` drives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from pipeline import run
from pipeline.cluster.continued import check_same_corpus, check_same_search
from pipeline.cluster.prepare import prepare
from pipeline.cluster.room import check_capacity
from pipeline.cluster.rules import Rules, budget, plan_trials
from pipeline.cluster.scoring import check_scorable, score_all, worker_of
from pipeline.cluster.search import run_trials, settings_of
from pipeline.cluster.session import ray_session
from pipeline.cluster.tasks import Tasks, on_ray
from pipeline.cluster.train import Plan
from pipeline.compare import costs as costing
from pipeline.compare import page
from pipeline.compare.checks import check_runs
from pipeline.compare.epochs import fewest_tokens_per_epoch
from pipeline.compare.findings import Findings, findings_of
from pipeline.compare.plan import Comparison
from pipeline.compare.planned import Planned
from pipeline.compare.scores import split_of
from pipeline.compare.variants import check_comparison
from pipeline.config import Config
from pipeline.data.prepare import OnShard
from pipeline.data.shards import PreparedCorpus, open_prepared
from pipeline.evaluate import split_held_out
from pipeline.files import write_file
from pipeline.paths import absolute
from pipeline.search.adopted import records_of_trials
from pipeline.search.engine import Engine
from pipeline.search.journal import COMPARISON, begin_journal, read_journal
from pipeline.search.plan import SearchPlan
from pipeline.search.space import Space
from pipeline.search.standing import Standing
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import Record

# what may differ between two starts: a run is known by its settings, so variants, seeds and lengths can be added
MAY_DIFFER = ("cluster.", "run.", "data.directory", "search.", "compare.")
Say = Callable[[str], None]


@dataclass(frozen=True)
class ComparisonRules(Rules):
    """Builds the engine of a comparison."""

    comparison: Comparison
    what: ClassVar[str] = COMPARISON

    def milestones(self, directory: RunDirectory) -> list[int]:
        return self.comparison.milestones

    def engine(
        self,
        directory: RunDirectory,
        write: Callable[..., None] = lambda *records: None,
        *,
        retries_failed: bool = True,
    ) -> Engine:
        return Engine(
            self.config.search,
            self.space,
            self.budget_tokens,
            records=read_journal(directory.path),
            write=write,
            candidates=Planned(self.comparison),
            retries_failed=retries_failed,
        )


def compare(
    config: Config,
    *,
    verbose: bool = False,
    say: Say = lambda sentence: None,
    on_record: Callable[[Record, Standing], None] = lambda record, standing: None,
    on_shard: OnShard = lambda entry, total: None,
    on_plan: Callable[[SearchPlan], None] = lambda plan: None,
) -> Findings:
    """Train the runs of ``config.compare``, continuing where a stopped comparison left off, and write the results.

    Args:
        say, on_record, on_shard, on_plan: as in ``search.search``.

    Raises:
        UserError: variants that cannot be compared, a directory that holds something else, runs that can no longer be
            scored, or fewer than two variants that trained well.
        InterruptedSearchError: asked to stop by Ctrl-C or SIGTERM; runs can continue from their last checkpoints.
    """
    config = absolute(config)
    check_comparison(config)
    directory = RunDirectory(str(config.run.directory))
    with directory.locked():
        check_same_search(directory, config, what=COMPARISON, may_differ=MAY_DIFFER)
        records = read_journal(directory.path)
        with ray_session(config.cluster, verbose=verbose):
            plan = plan_trials(config)
            check_capacity(plan.num_workers, plan.resources)
            corpus = prepare(config, on_shard=on_shard, say=say)
            check_same_corpus(records, corpus, what=COMPARISON)
            rules = rules_of(config, corpus, plan)
            check_scorable(rules.comparison, Standing.of(records), directory, split=split_of(corpus.splits, config))
            write_file(directory.config, settings_of(config))
            adopted = records or records_of_trials(directory.path, config, corpus)
            fingerprints = {"corpus": corpus.fingerprint, "tokens": corpus.tokens_fingerprint}
            begin_journal(directory.path, adopted, of=COMPARISON, **fingerprints)
            on_plan(rules.comparison.search_plan())
            run_trials(rules, directory, say=say, on_record=on_record)
            tasks = on_ray(plan, max_failures=config.cluster.max_failures, say=say)
            return finish(rules, config, directory, tasks=tasks, say=say)


def rules_of(config: Config, corpus: PreparedCorpus, plan: Plan) -> ComparisonRules:
    """The rules of the comparison of ``config`` on ``corpus``. Raises ``UserError`` like ``compare``."""
    comparison = comparison_of(config, corpus)
    num_tokens = {split: len(tokens) for split, tokens in corpus.splits.items()}
    data_of = partial(run.training_data, corpus=corpus, rank=0, world_size=1)
    check_runs(config, comparison, num_tokens=num_tokens, data_of=data_of)
    trial = comparison.trial_config(config, tokens_per_epoch=fewest_tokens_per_epoch(config, comparison, corpus))
    return ComparisonRules(trial, Space({}), max(comparison.lengths), [], plan, comparison)


def comparison_of(config: Config, corpus: PreparedCorpus) -> Comparison:
    """All runs of the comparison of ``config``. Raises ``UserError`` like ``compare``."""
    variants, search = check_comparison(config)
    tokens = budget(config, corpus)
    return Comparison.of(config, variants, search, vocab_size=corpus.vocab_size, tokens=tokens)


def finish(rules: ComparisonRules, config: Config, directory: RunDirectory, *, tasks: Tasks, say: Say) -> Findings:
    """Score and measure what is still missing, then write the tables and the page."""
    standing = Standing.of(read_journal(directory.path))
    corpus = open_prepared(config.data.directory)
    split = split_of(corpus.splits, config)
    no_bits = split_held_out(corpus, split, layout=config.data.layout).why_not
    scored = score_all(rules.comparison, rules.plan, config, directory, standing, split=split, tasks=tasks, say=say)
    costs = measure_all(rules, config, directory, standing, tasks=tasks, say=say)
    found = findings_of(
        rules.comparison, standing, scored, costs, split=split, title=directory.path.name, no_bits=no_bits
    )
    if missing := page.write(directory.path, found):
        say(f"{directory.path / page.PAGE}: {missing}")
    return found


def measure_all(
    rules: ComparisonRules, config: Config, directory: RunDirectory, standing: Standing, *, tasks: Tasks, say: Say
) -> costing.Costs:
    """What the models cost, measured now unless that was done before."""
    settings = costing.settings_of(rules.comparison, standing)
    wanted = costing.wanted_of(config, settings)
    costs = costing.load(directory.path, wanted=wanted, say=say)
    if costs is None:
        say("measuring the models side by side, in turns")
        trial = rules.config.model_copy(update={"compare": config.compare})
        (costs,) = tasks(measure_here, [(trial, rules.comparison, settings, rules.plan)])
        costing.save(directory.path, costs, wanted=wanted)
    return costs


def measure_here(config: Config, comparison: Comparison, settings: costing.Settings, plan: Plan) -> costing.Costs:
    """A task: measure all models. If its node is lost, all is measured again, as one machine must measure them."""
    return costing.measure(config, comparison.sizes, settings, open_prepared(config.data.directory), worker_of(plan))
