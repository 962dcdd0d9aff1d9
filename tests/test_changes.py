"""Settings that change within a run: what the schema accepts, and which values are in force when."""

from typing import Any

import pytest

from pipeline import config as configuration
from pipeline.config import changes
from pipeline.errors import UserError

TWO = [
    {"tokens": 100, "settings": {"optimizer.lr": "1e-4", "train.bptt": 32}},
    {"tokens": "3e2", "settings": {"optimizer.lr": 0.5, "model.dropout": 0}},
]


def test_the_settings_in_force_after_each_number_of_tokens() -> None:
    config = configuration.with_values(configuration.load(), {"train.changes": TWO})
    places = (0, 99, 100, 299, 300, 10**9)
    found = [changes.in_force(config, tokens) for tokens in places]
    assert [part.optimizer.lr for part in found] == [0.002, 0.002, 1e-4, 1e-4, 0.5, 0.5]
    assert [part.train.bptt for part in found] == [64, 64, 32, 32, 32, 32]
    assert [changes.next_change(config, tokens) for tokens in places] == [100, 100, 300, 300, None, None]
    assert [tokens for tokens, _ in changes.stretches(config)] == [0, 100, 300]
    assert changes.in_words(found[0], found[2]) == "train.bptt 64 → 32, optimizer.lr 0.002 → 0.0001"
    assert all(not part.train.changes for part in found)


def test_changes_are_written_and_read_again(tmp_path: Any) -> None:
    config = configuration.with_values(configuration.load(), {"train.changes": TWO, "train.evaluate_at_tokens": [50]})
    path = tmp_path / "config.yaml"
    path.write_text(configuration.to_yaml(config), encoding="utf-8")
    again = configuration.load(path)
    assert again.train == config.train
    assert again.train.changes[0].settings == {"optimizer.lr": 1e-4, "train.bptt": 32}
    given = configuration.load(overrides=["train.changes=[{tokens: 7, settings: {optimizer.lr: 3}}]"])
    assert changes.settings_at(given, 7) == {"optimizer.lr": 3.0}


STREAMS, DOCUMENTS = {"train.reset_state": "windows"}, {"data.layout": "documents", "tokenizer.eos": "document"}


@pytest.mark.parametrize(
    ("changed", "others", "sentence"),
    [
        ("x", {}, r"^train\.changes: must be a list of \{tokens: N.*'x'$"),
        ([{"tokens": 5}], {}, r"^train\.changes: must be a list of .*not of \{'tokens': 5\}$"),
        ([{"tokens": 0, "settings": {"optimizer.lr": 1}}], {}, r"tokens must be a whole number of at least 1, not 0$"),
        ([{"tokens": True, "settings": {"optimizer.lr": 1}}], {}, r"tokens must be a whole number .*, not True$"),
        ([{"tokens": 2.5, "settings": {"optimizer.lr": 1}}], {}, r"tokens must be a whole number .*, not 2\.5$"),
        ([{"tokens": 5, "settings": {}}], {}, r"settings must be section\.field: value, at least one, not \{\}$"),
        ([{"tokens": 5, "settings": {"optimizer.lr": -1}}], {}, r"^train\.changes: optimizer\.lr: .*greater than 0"),
        ([{"tokens": 5, "settings": {"model.hidden_size": 8}}], {}, r"model\.hidden_size: cannot change in a running"),
        ([{"tokens": 5, "settings": {"train.seed": 8}}], {}, r"^train\.changes: train\.seed: cannot change"),
        ([{"tokens": 5, "settings": {"model.hiden_size": 8}}], {}, r"unknown setting; did you mean hidden_size\?$"),
        (
            [{"tokens": 5, "settings": {"lr": 8}}],
            {},
            r"^train\.changes: lr: unknown setting; did you mean optimizer\.lr",
        ),
        (
            [{"tokens": 5, "settings": {"train.bptt": 8}}],
            STREAMS,
            r"train\.bptt: cannot change if the state is reset",
        ),
        (
            [{"tokens": 5, "settings": {"train.bptt": 8}}],
            DOCUMENTS,
            r"train\.bptt: cannot change in a run on documents",
        ),
        (
            [{"tokens": 5, "settings": {"train.bptt": 8}}],
            {"prune.sparsity": 0.5},
            r"cannot change in a run that prunes",
        ),
        (
            [{"tokens": 5, "settings": {"model.weight_dropout": 0.1}}],
            {"model.cell": "mingru"},
            r"^train\.changes: at 5 tokens: model\.weight_dropout: 0\.1, but mingru",
        ),
        (
            [{"tokens": 5, "settings": {"optimizer.lr": 1}}, {"tokens": 5, "settings": {"optimizer.lr": 2}}],
            {},
            r"must be in strictly rising order of tokens, not 5 after 5$",
        ),
    ],
)
def test_mistakes_are_named(changed: Any, others: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        configuration.with_values(configuration.load(), {**others, "train.changes": changed})


def test_every_changeable_setting_exists() -> None:
    for section, fields in changes.CHANGEABLE.items():
        assert set(fields) <= configuration.section_fields(section).keys()


def test_validations_at_tokens_are_positive() -> None:
    with pytest.raises(UserError, match=r"^train\.evaluate_at_tokens: must be numbers of tokens of at least 1, not 0"):
        configuration.load(overrides=["train.evaluate_at_tokens=[5, 0]"])
