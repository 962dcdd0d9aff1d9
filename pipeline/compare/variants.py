"""``compare.*`` → variants, and what is searched for each; what can be refused without a text is refused here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.config.fields import shown
from pipeline.config.unused import unused as unused_settings
from pipeline.errors import UserError
from pipeline.search.space import Space, wrong_conditions
from pipeline.search.specification import parse_setting

SECTIONS = ("model", "train", "optimizer")
WIDTH = "model.hidden_size"
NUM_TRIALS, NUM_FINALISTS, MAX_TOKENS = "num_trials", "num_finalists", "max_tokens"
DEFAULT_TRIALS, MOST_TRIALS = 6, 1_000
MOST_NAME = 40
# the seed of trials that search for settings; compare.seeds are smaller
SEARCH_SEED = 2**32 - 1
LENGTH = "compare.tokens says how long each run is"
ALONE = "steps are measured without a teacher"
# settings that a variant cannot have of its own, and why
NOT_OWN = {
    WIDTH: "it is what brings the variant to equal parameters",
    "train.seed": "compare.seeds lists the seeds",
    "train.epochs": LENGTH,
    "train.max_steps": LENGTH,
    "train.max_tokens": LENGTH,
    "train.max_words": LENGTH,
    "train.patience": "runs would end after unequal numbers of tokens",
    "train.changes": "variants are compared at the settings that they begin with",
    "train.initial_weights": "variants begin untrained",
    "train.teacher": ALONE,
}
# settings that no run of a comparison can have, and why
NOT_SET = {
    "train.max_steps": LENGTH,
    "train.max_words": LENGTH,
    "train.patience": "runs would end after unequal numbers of tokens",
    "train.initial_weights": "variants begin untrained",
    "train.teacher": ALONE,
}


@dataclass(frozen=True)
class Variant:
    """A name, and the settings that make the variant, by dotted path, as the schema takes them."""

    name: str
    settings: Mapping[str, Any]

    def config(self, config: Config, more: Mapping[str, Any] | None = None) -> Config:
        """``config`` with its settings and ``more``. Raises ``UserError`` that names the variant."""
        try:
            return configuration.with_values(config, {**self.settings, **(more or {})})
        except UserError as error:
            raise UserError(
                "\n".join(f"compare.variants: {self.name}: {line}" for line in str(error).splitlines())
            ) from None


@dataclass(frozen=True)
class OwnSearch:
    """What is searched for each variant before it is compared: ``num_trials`` draws of ``space``, with its own seed.

    The best ``num_finalists`` of them are trained as whole runs, if that is more than one.
    """

    space: Space
    num_trials: int
    max_tokens: int | None  # of one trial; None: the least of compare.tokens
    seed: int
    num_finalists: int = 1


def check_comparison(config: Config) -> tuple[list[Variant], OwnSearch | None]:
    """The variants of ``config.compare``, and what is searched for each (None: nothing).

    Raises:
        UserError: listing what cannot be compared, and why.
    """
    problems = [*wrong_settings(config)]
    variants = [Variant(name, own) for name, own in settings_of(config, problems).items()]
    if problems:
        raise UserError("\n".join(problems))
    for first, second in combinations(variants, 2):
        if dict(first.settings) == dict(second.settings):
            raise UserError(f"compare.variants: {first.name} and {second.name} are the same")
    for variant in variants:
        variant.config(config)
    return variants, own_search(config, variants)


def unused(config: Config, variants: list[Variant], search: OwnSearch | None) -> list[str]:
    """A sentence for each setting of ``config``, or of one of its ``variants``, that has no effect."""
    searched = set(search.space) if search else set()
    own = {path for variant in variants for path in variant.settings}
    common = unused_settings(config, varied=own | searched)
    found = [sentence for path, sentence in common.items() if path not in own]
    for variant in variants:
        of_variant = unused_settings(variant.config(config), varied=searched)
        found += [
            f"compare.variants: {variant.name}: {sentence}"
            for path, sentence in of_variant.items()
            if path in variant.settings
        ]
    return found


def wrong_settings(config: Config) -> Iterator[str]:
    """A sentence for each setting that a comparison cannot have."""
    compare = config.compare
    if len(compare.variants) < 2:
        names = ", ".join(compare.variants) or "none"
        yield f"compare.variants: a comparison needs two variants at least, not {len(compare.variants)} ({names})"
    if not compare.seeds:
        yield "compare.seeds: missing; list the seeds that each variant is trained with, [1, 2, 3]"
    if not config.corpus.valid and not config.corpus.valid_fraction:
        yield "corpus.valid: a comparison needs a validation split, but it is empty and corpus.valid_fraction is 0"
    if compare.split == "test" and not config.corpus.test and not config.corpus.test_fraction:
        yield "compare.split: test, but corpus.test is empty and corpus.test_fraction is 0"
    for path, why in NOT_SET.items():
        if configuration.get(config, path) is not None:
            yield f"{path}: must be null in a comparison: {why}"
    if config.train.changes:
        yield "train.changes: must be empty in a comparison: variants are compared at the settings that they begin with"
    if isinstance(config.model.hidden_size, list):
        yield f"{WIDTH}: must be one size in a comparison, which finds it, not {shown(config.model.hidden_size)}"


def settings_of(config: Config, problems: list[str]) -> dict[str, dict[str, Any]]:
    """The settings of each variant as the schema takes them; what is wrong with them is added to ``problems``."""
    found: dict[str, dict[str, Any]] = {}
    for name, settings in config.compare.variants.items():
        place = f"compare.variants: {shown(name)[1:-1] if name.strip() else shown(name)}"
        if not name.strip() or not name.isprintable() or len(name) > MOST_NAME:
            problems.append(f"{place}: a name has 1 to {MOST_NAME} characters that can be shown")
        found[name] = {}
        for path, value in settings.items():
            try:
                path = configuration.name_now(path)
                check_path(path)
                found[name][path] = configuration.field_value(path, value)
            except UserError as error:
                problems += [f"{place}: {line}" for line in str(error).splitlines()]
    return found


def check_path(path: str) -> None:
    """Raise ``UserError`` unless a variant may have its own value of the setting at ``path``."""
    section, _, field = path.partition(".")
    if path in NOT_OWN:
        raise UserError(f"{path}: a variant cannot have its own: {NOT_OWN[path]}")
    if section in ("corpus", "tokenizer", "data"):
        raise UserError(f"{path}: variants are compared on one corpus with one tokenizer")
    if section not in SECTIONS or field not in configuration.section_fields(section):
        near = [place if "." in place else f"{section}.{place}" for place in configuration.meant_by(path)]
        near = [place for place in near if place != path and place.startswith(SECTIONS)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"{path}: not a setting that variants can differ in (of {', '.join(SECTIONS)}){hint}")


def own_search(config: Config, variants: list[Variant]) -> OwnSearch | None:
    """What ``compare.search`` says. Raises ``UserError`` as ``check_comparison``."""
    spec = dict(config.compare.search)
    if not spec:
        return None
    num_trials = whole(NUM_TRIALS, spec.pop(NUM_TRIALS, DEFAULT_TRIALS), most=MOST_TRIALS)
    num_finalists = whole(NUM_FINALISTS, spec.pop(NUM_FINALISTS, 1), most=num_trials)
    max_tokens = spec.pop(MAX_TOKENS, None)
    max_tokens = None if max_tokens is None else whole(MAX_TOKENS, max_tokens, most=2**63 - 1)
    domains, problems = {}, []
    for path, values in spec.items():
        path = configuration.name_now(path)
        try:
            check_path(path)
            domains[path] = parse_setting(path, values)
        except UserError as error:
            problems += [
                f"compare.search: {path}: {line.removeprefix(path + ': ')}" for line in str(error).splitlines()
            ]
        problems += [
            f"compare.search: {path}: {variant.name} has a value of its own" for variant in variants
            if path in variant.settings
        ]  # fmt: skip
    problems += [
        f"compare.search: {path}: {line}"
        for path, domain in domains.items()
        for line in wrong_conditions(domain, domains)
    ]
    if not spec:
        problems.append("compare.search: names no setting to search, {optimizer.lr: {loguniform: [1e-4, 1e-2]}}")
    if problems:
        raise UserError("\n".join(problems))
    space = Space(domains)
    assert space.parents_first is not None  # or raises, if conditions form a circle
    return OwnSearch(space, num_trials, max_tokens, SEARCH_SEED, num_finalists)


def whole(name: str, value: Any, *, most: int) -> int:
    """``value`` as a whole number from 1 to ``most``. Raises ``UserError``."""
    number = float(value) if isinstance(value, (int, float, str)) and is_number(value) else 0.0
    if isinstance(value, bool) or not 1 <= number <= most or not number.is_integer():
        raise UserError(f"compare.search: {name} must be a whole number from 1 to {most:,}, not {shown(value)}")
    return int(number)


def is_number(value: Any) -> bool:
    try:
        return float(value) == float(value)
    except (ValueError, OverflowError):
        return False
