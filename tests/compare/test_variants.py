"""Settings that cannot be compared are refused in a sentence, before a text or torch is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.compare.variants import check_comparison
from pipeline.config import Config
from pipeline.errors import UserError

TWO = {"lstm": {"model.cell": "lstm"}, "gru": {"model.cell": "gru"}}


def compared(**changes: Any) -> dict[str, Any]:
    values = {"variants": TWO, "seeds": [1, 2], **changes}
    return {f"compare.{name}": value for name, value in values.items()}


def test_variants_and_a_search(make_config: Callable[..., Config]) -> None:
    search = {"num_trials": 3, "max_tokens": "1e4", "optimizer.lr": {"loguniform": ["1e-4", "1e-2"]}}
    variants, own = check_comparison(make_config(compared(search=search)))
    assert [(variant.name, variant.settings) for variant in variants] == list(TWO.items())
    assert own is not None
    assert (own.num_trials, own.max_tokens, own.seed) == (3, 10_000, 2**32 - 1)
    assert own.space["optimizer.lr"].arguments == [1e-4, 1e-2]
    assert check_comparison(make_config(compared()))[1] is None


def test_numbers_can_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = """
        compare:
          parameters: 1_000_000
          tokens: [1e6, 2000000]
          seeds: [1, 2]
          variants:
            plain: {model.cell: lstm}
            deep: {model.num_layers: 4, optimizer.lr: 1e-3}
    """
    (tmp_path / "compare.yaml").write_text(text)
    config = configuration.load(tmp_path / "compare.yaml", ["corpus.valid_fraction=0.1"])
    assert (config.compare.parameters, config.compare.tokens) == ([1_000_000], [1_000_000, 2_000_000])
    variants, _ = check_comparison(config)
    assert variants[1].settings == {"model.num_layers": 4, "optimizer.lr": 0.001}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"compare.variants": {}}, "compare.variants: a comparison needs two variants at least, not 0 (none)"),
    ({"compare.variants": {"lstm": {}}}, "compare.variants: a comparison needs two variants at least, not 1 (lstm)"),
    ({"compare.seeds": []}, "compare.seeds: missing; list the seeds that each variant is trained with, [1, 2, 3]"),
    ({"compare.seeds": [1, 2, 1]}, "compare.seeds: must be different numbers, not [1, 2, 1]"),
    ({"compare.seeds": [-1]}, "compare.seeds: must be from 0 to 4,294,967,294, not [-1]"),
    ({"compare.parameters": [5, 5]}, "compare.parameters: must be different numbers, not [5, 5]"),
    ({"compare.parameters": 0}, "compare.parameters: must be whole numbers of at least 1, not 0"),
    ({"compare.variants": {"a": {"model.cell": "gru"}, "b": {"model.cell": "gru"}}},
     "compare.variants: a and b are the same"),
    ({"compare.variants": {"a": {}, "b": {"model.cell": "gpt"}}}, "compare.variants: b: model.cell: "),
    ({"compare.variants": {"a": {}, "b": {"model.cel": "gru"}}},
     "compare.variants: b: model.cel: not a setting that variants can differ in (of model, train, optimizer); did you "
     "mean model.cell?"),
    ({"compare.variants": {"a": {}, "b": {"tokenizer.kind": "char"}}},
     "compare.variants: b: tokenizer.kind: variants are compared on one corpus with one tokenizer"),
    ({"compare.variants": {"a": {}, "b": {"corpus.train": "other.txt"}}},
     "compare.variants: b: corpus.train: variants are compared on one corpus with one tokenizer"),
    ({"compare.variants": {"a": {}, "b": {"model.hidden_size": 9}}},
     "compare.variants: b: model.hidden_size: a variant cannot have its own: it is what brings the variant to equal "
     "parameters"),
    ({"compare.variants": {"a": {}, "b": {"train.epochs": 9}}},
     "compare.variants: b: train.epochs: a variant cannot have its own: compare.tokens says how long each run is"),
    ({"compare.variants": {"a": {}, "b": {"train.seed": 9}}},
     "compare.variants: b: train.seed: a variant cannot have its own: compare.seeds lists the seeds"),
    ({"compare.variants": {"a": {}, "b": {"model.cell": "mingru", "model.weight_dropout": 0.5}}},
     "compare.variants: b: model.weight_dropout: 0.5, but mingru has no recurrent weights"),
    ({"compare.variants": {"a": {}, "": {"model.cell": "gru"}}},
     "compare.variants: '': a name has 1 to 40 characters that can be shown"),
    ({"compare.search": {"num_trials": 0, "optimizer.lr": [1]}},
     "compare.search: num_trials must be a whole number from 1 to 1,000, not 0"),
    ({"compare.search": {"num_trials": 3, "num_finalists": 4, "optimizer.lr": [1]}},
     "compare.search: num_finalists must be a whole number from 1 to 3, not 4"),
    ({"compare.search": {"num_trials": 3}},
     "compare.search: names no setting to search, {optimizer.lr: {loguniform: [1e-4, 1e-2]}}"),
    ({"compare.search": {"model.cell": ["lstm", "gru"]}}, "compare.search: model.cell: lstm has a value of its own"),
    ({"compare.search": {"optimizer.lr": {"loguniform": [1, 0]}}},
     "compare.search: optimizer.lr: loguniform goes from a lower to a higher number, not [1, 0]"),
    ({"compare.search": {"optimizer.nosuch": [1]}},
     "compare.search: optimizer.nosuch: not a setting that variants can differ in (of model, train, optimizer)"),
    ({"train.patience": 3}, "train.patience: must be null in a comparison: runs would end after unequal numbers of"),
    ({"train.max_steps": 3}, "train.max_steps: must be null in a comparison: compare.tokens says how long each run is"),
    ({"corpus.valid_fraction": 0}, "corpus.valid: a comparison needs a validation split, but it is empty"),
    ({"compare.split": "test"}, "compare.split: test, but corpus.test is empty and corpus.test_fraction is 0"),
    ({"model.hidden_size": [8, 9]}, "model.hidden_size: must be one size in a comparison, which finds it, not [8, 9]"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=lambda value: str(value)[:60])
def test_settings_that_cannot_be_compared_are_refused(
    make_config: Callable[..., Config], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        check_comparison(make_config({**compared(), **changes}))
    assert str(refused.value).splitlines()[0].startswith(sentence)


def test_a_variant_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("compare:\n  variants:\n    a: {model.cell: gru}\n    a: {model.cell: lstm}\n")
    with pytest.raises(UserError, match="a is given twice"):
        configuration.load(path)
