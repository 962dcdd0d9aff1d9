"""One schema and one merge: which values are taken, from where, and with which meaning."""

import warnings
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.config import Config, load
from pipeline.errors import Notice


def test_precedence(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {hidden_size: 7, num_layers: 3}\noptimizer: {lr: 3e-4}\n")
    config = load(path, ["model.hidden_size=9"])
    assert (config.model.hidden_size, config.model.num_layers, config.train.bptt) == (9, 3, 64)
    assert config.optimizer.lr == 3e-4  # YAML reads 3e-4 as a string
    assert config.run.directory == "runs/mine"
    sampled = configuration.with_values(config, {"model.hidden_size": 11})
    assert (sampled.model.hidden_size, config.model.hidden_size) == (11, 9)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("run.sample_prompt=ROMEO:", "ROMEO:"),
        ("run.sample_prompt=The ", "The "),
        ("run.sample_prompt='quoted: '", "quoted: "),
        ("run.sample_prompt=", ""),
        ("run.directory=2024-01-01", "2024-01-01"),
        ("corpus.train=chapter #1.txt", ["chapter #1.txt"]),
        ("corpus.train=[a.txt, b.txt]", ["a.txt", "b.txt"]),
        ("tokenizer.path=null", None),
        ("model.tie_weights=yes", True),
        ("train.max_steps=1e5", 100_000),
        ("train.max_steps=1.5e3", 1500),
        ("train.max_tokens=1_000_000", 1_000_000),
        ("train.checkpoint_at_words=[1e6, 2.5e6]", [1_000_000, 2_500_000]),
        ("model.hidden_size=1e2", 100),
        ("optimizer.lr=3e-4", 3e-4),
        ("optimizer.lr=1", 1.0),
        ("train.bptt=64.0", 64),
    ],
)
def test_values_on_the_command_line_have_their_intended_types(override: str, value: object) -> None:
    assert configuration.get(load(None, [override]), override.partition("=")[0]) == value


def test_a_written_configuration_reads_back_the_same(tmp_path: Path) -> None:
    config = load(None, ["model.dropout=0.25", "corpus.train=[a, b]", "cluster.num_workers=3"])
    path = tmp_path / "again.yaml"
    path.write_text(configuration.to_yaml(config))
    assert load(path) == config


def test_the_fingerprint_covers_only_the_settings_that_decide_the_data() -> None:
    base = configuration.data_fingerprint(Config())
    assert configuration.data_fingerprint(configuration.with_values(Config(), {"optimizer.lr": 1.0})) == base
    for path, value in {"corpus.train": ["x"], "tokenizer.kind": "char", "data.shard_tokens": 2048}.items():
        assert configuration.data_fingerprint(configuration.with_values(Config(), {path: value})) != base


def test_an_empty_section_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "default.yaml"
    path.write_text("model:\ntrain:\n  # bptt: 3\noptimizer: null\n")
    assert load(path) == load()


def test_values_of_merged_mappings_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text("train: &base {bptt: 3, epochs: 4}\nevaluate: {streams: 2}\ncorpus: {train: 2024-01-01}\n")
    assert load(path).corpus.train == ["2024-01-01"]
    path.write_text("model: &base {dropout: 0.1, num_layers: 3}\nsearch:\n  space: {<<: *base, dropout: [0.2]}\n")
    assert load(path).search.space == {"dropout": [0.2], "num_layers": 3}


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "marked.yaml"
    path.write_text("\ufefftrain: {bptt: 3}", encoding="utf-8")
    assert load(path).train.bptt == 3


def test_settings_of_earlier_versions_are_read_under_their_new_names(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(
        "train: {accumulate: 2, batch_size: 8}\nprune: {share: 0.5}\nmodel: {adaptive_shrinkage: 3}\n"
        "ddp: {bucket_megabytes: 25.0, static_graph: false}\n"
        "search: {space: {train.accumulate: [1, 2], train.bptt: [9]}}\n"
    )
    with pytest.warns(Notice) as notices:
        config = load(path)
    assert config.train.gradient_accumulation_steps == 2
    assert (config.prune.sparsity, config.model.adaptive_div_value) == (0.5, 3)
    assert list(config.search.space) == ["train.gradient_accumulation_steps", "train.bptt"]  # in the order of the file
    (notice,) = notices
    assert str(notice.message).startswith(f"{path}: train.accumulate is now train.gradient_accumulation_steps; ")
    assert "ddp.static_graph is no longer a setting" in str(notice.message)
    with pytest.warns(Notice, match="prune.share is now prune.sparsity"):
        assert load(path, ["prune.share=0.25"]).prune.sparsity == 0.25
    with pytest.warns(Notice, match="train.accumulate"):
        assert configuration.with_values(config, {"train.accumulate": 4}).train.gradient_accumulation_steps == 4
    assert configuration.get(config, "train.accumulate") == configuration.field_value("train.accumulate", 2) == 2
    written = tmp_path / "new.yaml"
    written.write_text(configuration.to_yaml(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(written).train == config.train


def test_a_section_without_settings_leaves_those_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("model: {cell: gru}\ntrain: {epochs: 7}\n")
    (tmp_path / "mine.yaml").write_text(f"base: {tmp_path}/below.yaml\ntrain:\n  # none\noptimizer:\nmodel: {{}}\n")
    config = load(tmp_path / "mine.yaml")
    assert (config.train.epochs, config.model.cell) == (7, "gru")


def test_a_base_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text("model: {hidden_size: 99, cell: gru}\ntrain: {accumulate: 2}\n")
    (tmp_path / "mine.yaml").write_text(f"base: {tmp_path}/below.yaml\nmodel: {{cell: rnn}}\noptimizer: {{lr: 0.5}}\n")
    with pytest.warns(match=r"below\.yaml: .*accumulate"):
        config = load(tmp_path / "mine.yaml", ["optimizer.lr=0.25"])
    assert (config.model.hidden_size, config.model.cell, config.optimizer.lr) == (99, "rnn", 0.25)
    assert config.train.gradient_accumulation_steps == 2
    assert config.run.directory == "runs/mine"
