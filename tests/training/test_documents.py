"""Independent documents through the whole of training: resumed, on several ranks, refused if settings do not fit."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.dry_run import dry_run
from pipeline.generate import generate, generate_batch, likeliest_texts
from pipeline.training import checkpoint
from pipeline.training.monitor import read
from tests.training.ranks import Plan, train_on_ranks
from tests.training.test_resume import assert_bitwise_equal, curve, end_state, interrupt_after

MakeConfig = Callable[..., Config]


@pytest.fixture
def make_names(make_config: MakeConfig, tmp_path: Path) -> MakeConfig:
    """As ``make_config``, with 300 names as text, one per line."""
    source = random.Random(1)
    names = ["".join(source.choice(["ka", "mo", "ri", "ta"]) for _ in range(source.randint(1, 6))) for _ in range(300)]
    path = tmp_path / "names.txt"
    path.write_text("".join(name + "\n" for name in names), encoding="utf-8")

    def make(changes: dict[str, Any] | None = None) -> Config:
        values = {"corpus.train": [str(path)], "corpus.document": "line", "data.layout": "documents"}
        return make_config({**values, **(changes or {})})

    return make


def test_interrupted_anywhere_and_continued_is_bitwise_equal(make_names: MakeConfig, tmp_path: Path) -> None:
    config = make_names({"train.epochs": 2, "model.dropout": 0.3, "train.checkpoint_every_steps": 7})
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    launch.train(config, launch.in_process)
    for num_steps in (3, 4, 11, 40):  # of 48 in an epoch
        interrupt_after(broken, num_steps)
    launch.train(broken, launch.in_process)
    assert len(curve(config)) == 19
    assert curve(config) == curve(broken)
    assert curve(config, "valid") == curve(broken, "valid")
    assert_bitwise_equal(end_state(config), end_state(broken))


def test_losses_do_not_depend_on_the_number_of_workers(make_names: MakeConfig, tmp_path: Path) -> None:
    # 5 documents on 2 ranks: 2 and 3; the last window of an epoch has empty rows
    changes = {"train.precision": "float64", "train.epochs": 2, "train.log_every_steps": 1, "train.batch_size": 5}
    config = make_names({**changes, "train.bptt": 8, "data.bucket_windows": 4})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    two = configuration.with_values(
        config, {"run.directory": str(tmp_path / "two"), "train.gradient_accumulation_steps": 2}
    )
    train_on_ranks(2, Plan(two))
    expected, found = curve(config), curve(two)
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-10)
    one, other = curve(config, "valid", "perplexity"), curve(two, "valid", "perplexity")
    assert [value for _, value in other] == pytest.approx([value for _, value in one], rel=1e-10)


def test_a_dry_run_counts_the_same_as_the_run(make_names: MakeConfig) -> None:
    config = make_names({"train.bptt": 8, "run.sample_tokens": 0})
    figures = dry_run(config)
    result = launch.train(config, launch.in_process)
    start = next(read(Path(str(config.run.directory)) / "metrics.jsonl"))
    assert figures["steps"] == result["steps"] == start["total_steps"]
    assert figures["unused"] == start["unused"]
    assert start["num_unused_tokens"] > 0
    assert figures["tokens"] == result["tokens"] + start["num_unused_tokens"]
    assert dry_run(config) == figures  # now from the manifest


def test_generated_texts_are_documents(make_names: MakeConfig) -> None:
    config = make_names({"train.epochs": 6, "optimizer.lr": 0.03, "run.sample_tokens": 60})
    result = launch.train(config, launch.in_process)
    loaded = checkpoint.load_model(result["checkpoint"])
    options: dict[str, Any] = {"num_tokens": 40, "layout": "documents"}
    texts = ["".join(generate(loaded.model, loaded.tokenizer, "", seed=1, copy=copy, **options)) for copy in range(20)]
    assert len(set(texts)) > 5
    assert not any("\n" in text for text in texts)
    assert sum(len(text) < 40 for text in texts) > 15  # they ended by themselves
    assert sum(text[:2] in ("ka", "mo", "ri", "ta") for text in texts) > 12
    batch = list(generate_batch(loaded.model, loaded.tokenizer, [""] * 20, seed=1, **options))
    assert [written.text for written in batch] == texts
    assert all(written.num_tokens == min(40, len(written.text) + 1) for written in batch)  # the text and <eos>
    [(likeliest, _)] = likeliest_texts(loaded.model, loaded.tokenizer, ["ka"], num_beams=3, **options)
    assert "\n" not in likeliest
    records = read(Path(str(config.run.directory)) / "metrics.jsonl")
    sample = [record["text"] for record in records if record["kind"] == "sample"][-1]
    assert len(sample.split("\n")) > 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.reset_state": "document"}, r"train\.reset_state: document is for streams"),
        ({"train.epoch_order": "rotated"}, r"train\.epoch_order: rotated is for streams"),
        ({"train.window_lengths": "random"}, r"train\.window_lengths: random is for streams"),
        ({"train.activation_penalty": 2}, r"train\.activation_penalty: 2\.0 is for streams"),
        ({"tokenizer.kind": "word"}, r"set document, not auto, which is line for words"),
        ({"tokenizer.eos": "none"}, r"set document, not none"),
    ],
)
def test_settings_of_streams_are_refused(make_names: MakeConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_names(changes)


def test_a_corpus_of_one_document_is_refused(make_names: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.eos=none \(auto is none if the training text is one document"):
        launch.train(make_names({"corpus.document": "file"}), launch.in_process)
    with pytest.raises(ValueError, match=r"only 1 of the train\.batch_size=6 documents"):
        launch.train(
            make_names({"corpus.document": "file", "tokenizer.eos": "document", "data.directory": str(tmp_path / "x")}),
            launch.in_process,
        )
