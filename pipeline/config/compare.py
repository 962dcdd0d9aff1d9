"""Section of the comparison of variants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, field_validator

from pipeline.config.fields import Section, setting, shown
from pipeline.errors import UserError

MOST_VALUES = 100  # in one list: a comparison of more would never end


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (int, float, str)) and not isinstance(value, bool) else value


def _different(values: list[int]) -> list[int]:
    if not values:
        raise UserError("must have at least one number, not []")
    if any(value < 1 for value in values):
        raise UserError(f"must be whole numbers of at least 1, not {shown(min(values))}")
    if len(set(values)) < len(values):
        raise UserError(f"must be different numbers, not {shown(values)}")
    if len(values) > MOST_VALUES:
        raise UserError(f"must have at most {MOST_VALUES} numbers, not {len(values)}")
    return values


# one number or several, each at least 1, no two equal
Numbers = Annotated[list[int], BeforeValidator(_as_list), AfterValidator(_different), "different, at least 1"]


class CompareConfig(Section):
    """Comparison of variants at equal parameters, tokens and time."""

    variants: dict[str, dict[str, Any]] = setting(
        {},
        "Name → the settings of model, train and optimizer, by dotted path, that make the variant; empty: there is "
        "nothing to compare.",
    )
    parameters: Numbers | None = setting(
        None,
        "Number of parameters to which each variant is brought, within 1 %, by its model.hidden_size (or, if heads "
        "leave one of them few widths, the nearest number that all can have, at most 10 % away); several: all are "
        "trained at each of these sizes; null: as many as the first variant has with model.hidden_size as it is.",
        unit="parameters",
    )
    count: Literal["all", "recurrence"] = setting(
        "all",
        "Which parameters are made equal: all, counting a tied matrix once, or those outside embedding and head.",
        source="all: Hoffmann et al. 2022; recurrence: Kaplan et al. 2020",
    )
    tokens: Numbers | None = setting(
        None,
        "Tokens that each run is trained on; several: runs of each length; null: as train.* says.",
        unit="tokens",
    )
    seconds: float | None = setting(
        None,
        "Training time at which variants are compared, besides at equal tokens; null: what the quickest of them takes "
        "for all its tokens.",
        unit="seconds",
        gt=0,
    )
    seeds: list[int] = setting([], "Seeds that each variant is trained with (train.seed); at least one is needed.")
    search: dict[str, Any] = setting(
        {},
        "{num_trials: 6, optimizer.lr: {loguniform: [1e-4, 1e-2]}} first gives each variant the best of this many "
        "draws, which have a seed of their own; settings as in search.space; max_tokens: of such a trial (null: the "
        "smallest of tokens); num_finalists: so many of the best are then trained to the end, and the best of these is "
        "taken (1); empty: variants are trained as they are.",
    )
    split: Literal["auto", "valid", "test"] = setting(
        "auto", "Split that trained variants are scored on; auto: test if there is one, else valid."
    )
    window_lengths: Numbers = setting(
        [32, 64, 128, 256], "Window lengths at which the peak memory of training is measured.", unit="tokens"
    )
    contexts: Numbers = setting(
        [10, 100, 1000, 10_000],
        "Numbers of tokens already read at which the time and memory of one more token are measured.",
        unit="tokens",
    )
    rounds: int = setting(
        9, "Rounds in which the variants take turns when time is measured.", unit="rounds", ge=3, le=1000
    )

    @field_validator("seeds")
    @classmethod
    def _are_seeds(cls, seeds: list[int]) -> list[int]:
        if any(not 0 <= seed < 2**32 - 1 for seed in seeds):
            raise UserError(f"must be from 0 to {2**32 - 2:,}, not {shown(seeds)}")
        if len(set(seeds)) < len(seeds):
            raise UserError(f"must be different numbers, not {shown(seeds)}")
        return seeds
