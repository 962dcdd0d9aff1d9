"""Trials with different tokenizers: a corpus for each tokenizer, prepared once, and compared by bytes."""

import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline import resources, run
from pipeline.config import Config
from pipeline.data import directory
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import UserError
from pipeline.search import corpora
from pipeline.search.checks import why_not
from pipeline.search.space import check_space


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    space = {"tokenizer.kind": ["char", "byte"], "optimizer.lr": [0.1]}
    return make_config({"search.space": space, "train.max_tokens": 600})


def test_each_tokenizer_has_its_own_corpus(config: Config) -> None:
    assert set(check_space(config)) == {"tokenizer.kind", "optimizer.lr"}
    own = corpora.of_trial(config, {"tokenizer.kind": "char", "optimizer.lr": 0.1})
    assert own.data.directory == config.data.directory
    other = corpora.of_trial(config, {"tokenizer.kind": "byte"})
    again = corpora.of_trial(config, {"tokenizer.kind": "byte", "model.hidden_size": 7})
    assert other.data.directory == again.data.directory != config.data.directory
    assert str(other.data.directory).startswith(f"{config.data.directory}-")
    assert corpora.prepared(other).tokenizer.kind == "byte"
    files = {path: path.stat().st_mtime_ns for path in Path(str(other.data.directory)).glob("*.arrow")}
    assert files
    corpora.prepared(again)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_corpus_that_another_trial_prepares_is_waited_for(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "LOOK_SECONDS", 0.01)
    folder = Path(str(config.data.directory))
    folder.mkdir(parents=True)
    found: list[int] = []
    with directory.locked(str(folder), say=print):
        thread = threading.Thread(target=lambda: found.append(corpora.prepared(config).vocab_size))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(30)
    assert found == [prepare_in_process(config).vocab_size]


def test_figures_per_byte_equal_those_per_character_of_one_byte(config: Config) -> None:
    """If each character is one byte, a character model's perplexity per byte is its perplexity."""
    prepare_in_process(config)
    reported: list[dict[str, float]] = []
    worker = resources.Worker(resources.resolve_device("cpu"), num_threads=1)
    run.train(config, worker, report=reported.append, evaluate_at_tokens=[300])
    for figures in reported:
        told = corpora.by_bytes(figures)
        assert told["loss"] == pytest.approx(figures["loss"], rel=1e-3)  # except for the first character, a <bos>
        assert told["perplexity"] == pytest.approx(math.exp(told["loss"]))
        assert told["tokens"] == figures["tokens"]


def test_if_bytes_cannot_be_compared_the_reason_is_given(config: Config, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("zebras and quaggas\n" * 40)
    unknown = configuration.with_values(
        config, {"corpus.valid": [str(tmp_path / "valid.txt")], "tokenizer.kind": "word"}
    )
    with pytest.raises(UserError, match=r"^search\.space: tokenizers are compared by bits per byte, which .*<unk>"):
        corpora.check_comparable(unknown, prepare_in_process(unknown))
    endless = configuration.with_values(unknown, {"train.max_tokens": None})
    with pytest.raises(UserError, match=r"^search\.max_tokens: trials of different tokenizers"):
        corpora.check_comparable(endless, prepare_in_process(endless))
    with pytest.raises(UserError, match=r"data\.directory: not a setting that can be searched: each trial has"):
        check_space(configuration.with_values(config, {"search.space": {"data.directory": ["a", "b"]}}))


def test_a_trial_whose_corpus_is_not_there_yet_can_be_drawn(config: Config) -> None:
    reason = why_not(config, prepare_in_process(config), num_workers=1)
    assert reason({"tokenizer.kind": "byte"}) == ""
    assert "adaptive needs ids in order of frequency" in why_not(
        configuration.with_values(config, {"model.head": "adaptive"}), prepare_in_process(config), num_workers=1
    )({"tokenizer.kind": "byte"})
