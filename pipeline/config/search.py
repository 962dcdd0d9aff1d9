"""Section of the search over settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from pipeline.config.fields import Section, setting, shown
from pipeline.errors import UserError

RUNGS = "asha|hyperband|median|asha_stopping"  # the schedulers that have rungs
DEFAULT_SPACE = {
    "optimizer.lr": {"loguniform": [5e-4, 1e-2]},
    "model.hidden_size": {"choice": [128, 256, 512]},
    "train.bptt": {"choice": [32, 64, 128]},
}


class SearchConfig(Section):
    """Hyperparameter search by validation perplexity."""

    space: dict[str, Any] = setting(
        DEFAULT_SPACE,
        "Dotted path → list of values, or {choice: […]}, {uniform: [low, high]}, {loguniform: [low, high]}, "
        "{randint: [low, high]} and {lograndint: [low, high]} (high excluded), {quniform: [low, high, step]}, "
        "{qloguniform: …} and {qrandint: …} (multiples of step, low and high included); next to any of them when: "
        "{other.path: value or values}, the condition under which it is set; the setting must accept every value and "
        "both ends. Paths are of model, train, optimizer, tokenizer and data.",
    )
    algorithm: Literal["random", "grid", "tpe"] = setting(
        "random",
        "How new trials are drawn: at random, every combination of the values once, or where good trials are denser "
        "than bad ones (Optuna's estimator, of recurray[search]).",
        source="Bergstra & Bengio 2012; Bergstra et al. 2011; Watanabe 2023",
    )
    startup_trials: int = setting(
        5,
        "Trials with a result before tpe begins to estimate.",
        unit="trials",
        only_with="search.algorithm=tpe",
        ge=1,
    )
    try_first: list[dict[str, Any]] | None = setting(
        None,
        "Settings to try before any is drawn, by dotted path; those left out are as configured; null: the "
        "configuration's own values if the space holds them (not for grid); []: none.",
    )
    max_parameters: int | None = setting(
        None, "Draws of larger models are replaced by new ones, at no cost; null: any size.", unit="parameters", ge=1
    )
    num_trials: int | None = setting(
        None,
        "Number of trials; null: those of the whole grid, or as many as max_total_tokens or max_hours allow, or 8 "
        "without any of these. A larger number extends a finished search.",
        unit="trials",
        ge=1,
        le=100_000,
    )
    max_concurrent: int | None = setting(None, "Trials at a time; null: as many as fit.", unit="trials", ge=1)
    scheduler: Literal["asha", "hyperband", "median", "pbt", "asha_stopping", "none"] = setting(
        "asha",
        "Which trials continue at a rung: the best 1 in reduction_factor, while the others pause and are promoted once "
        "they are among the best (asha; hyperband: in brackets that begin at each of the rungs); those no worse than "
        "the median; as asha, but the others stop for good, as in Ray Tune (asha_stopping); all; or all, but at each "
        "interval the worst take checkpoints of the best and continue with their settings perturbed (pbt).",
        source="Li et al. 2020; Li et al. 2018; Golovin et al. 2017; Jaderberg et al. 2017",
    )
    max_tokens: int | None = setting(None, "Training budget of one trial; null: as train.* says.", unit="tokens", ge=1)
    grace_tokens: int | None = setting(
        None,
        "Tokens of the first rung, where trials are first compared; null: the budget over reduction_factor squared.",
        unit="tokens",
        only_with=f"search.scheduler={RUNGS}",
        ge=1,
    )
    reduction_factor: int = setting(
        3, "One in this many trials continues to the next rung.", only_with=f"search.scheduler={RUNGS}", ge=2
    )
    perturbation_interval_tokens: int | None = setting(
        None,
        "Tokens between two generations of pbt; null: a tenth of the budget.",
        unit="tokens",
        only_with="search.scheduler=pbt",
        ge=1,
    )
    quantile_fraction: float = setting(
        0.25,
        "Share of a pbt population that, in each generation, takes checkpoints of an equally large share of the best.",
        source="Jaderberg et al. 2017",
        only_with="search.scheduler=pbt",
        gt=0,
        le=0.5,
    )
    resample_probability: float = setting(
        0.25,
        "Probability that pbt draws a new value for a setting instead of perturbing it.",
        only_with="search.scheduler=pbt",
        ge=0,
        le=1,
    )
    max_total_tokens: int | None = setting(
        None,
        "Tokens of all trials together, confirming ones included: what does not fit is not started; null: no limit.",
        unit="tokens",
        ge=1,
    )
    max_hours: float | None = setting(
        None,
        "Hours of the whole search, over all its starts; then it ends with what it has; null: no limit.",
        unit="hours",
        gt=0,
    )
    confirm: dict[str, int] | None = setting(
        None,
        "{top: 3, seeds: 3} trains the best three again to the end, with three other seeds each, and the best mean "
        "wins; null: the lowest perplexity wins.",
    )
    keep: int = setting(
        3, "Best trials whose checkpoints are kept, in addition to all that can still be promoted.", unit="trials", ge=1
    )
    seed: int = setting(1, "Seed of the sampled settings.", ge=0, lt=2**32)

    @field_validator("confirm")
    @classmethod
    def _is_top_and_seeds(cls, confirm: dict[str, int] | None) -> dict[str, int] | None:
        if confirm is None:
            return None
        if confirm.keys() != {"top", "seeds"} or not all(1 <= number <= 1_000 for number in confirm.values()):
            raise UserError(f"must be {{top: …, seeds: …}}, both from 1 to 1,000, not {shown(confirm)}")
        return confirm
