"""One schema, one merge, and every mistake at once."""

from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.config import Config, load


def test_precedence(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {hidden_size: 7, num_layers: 3}\noptimizer: {lr: 3e-4}\n")
    config = load(path, ["model.hidden_size=9"])
    assert (config.model.hidden_size, config.model.num_layers, config.train.bptt) == (9, 3, 64)
    assert config.optimizer.lr == 3e-4  # YAML reads 3e-4 as a string
    assert config.run.directory == "runs/mine"
    sampled = configuration.with_values(config, {"model.hidden_size": 11})
    assert (sampled.model.hidden_size, config.model.hidden_size) == (11, 9)


def test_all_mistakes_are_listed_at_once_by_their_paths() -> None:
    with pytest.raises(ValueError, match="unknown") as caught:
        load(None, ["model.hiden_size=3", "train.bptt=0", "trian.bptt=3", "nonsense", "cluster.num_workers=-1"])
    lines = str(caught.value).splitlines()
    assert "model.hiden_size: unknown setting; did you mean hidden_size?" in lines
    assert "trian: unknown setting; did you mean train?" in lines
    assert any(line.startswith("train.bptt: ") and line.endswith("not 0") for line in lines)
    assert any(line.startswith("nonsense: ") for line in lines)
    assert any(line.startswith("cluster.num_workers: must be a whole number") for line in lines)


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
    ],
)
def test_texts_on_the_command_line_are_taken_as_they_stand(override: str, value: object) -> None:
    assert configuration.get(load(None, [override]), override.partition("=")[0]) == value


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "run.directory=s3://bucket/run",
            "run.directory: s3://bucket/run is no folder; a run needs one that every worker writes to "
            "(data may be a bucket)",
        ),
        (
            "model.cell=lstmm",
            "model.cell: input should be 'rnn', 'lstm', 'gru', 'gru_reset_before', "
            "'mingru', 'minlstm' or 'qrnn', not 'lstmm'",
        ),
        ("cluster.num_workers=many", "cluster.num_workers: must be a whole number of at least 1, or auto, not 'many'"),
        ("model=3", "model: a section; set one of its fields, model.field=value"),
        ("hidden_size=3", "hidden_size: unknown setting; did you mean model.hidden_size?"),
    ],
)
def test_one_sentence_for_one_mistake(override: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+") as caught:
        load(None, [override])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("overrides", "setting"),
    [
        (["cluster.num_workers=5", "train.batch_size=4"], "cluster.num_workers"),
        (["cluster.num_workers=2", "cluster.backend=local"], "cluster.num_workers"),
        (["corpus.valid_fraction=0.6", "corpus.test_fraction=0.5"], "corpus.valid_fraction"),
    ],
)
def test_settings_that_do_not_go_together(overrides: list[str], setting: str) -> None:
    with pytest.raises(ValueError, match=rf"^{setting}: "):
        load(None, overrides)


def test_a_written_configuration_reads_back_the_same(tmp_path: Path) -> None:
    config = load(None, ["model.dropout=0.25", "corpus.train=[a, b]", "cluster.num_workers=3"])
    path = tmp_path / "again.yaml"
    path.write_text(configuration.to_yaml(config))
    assert load(path) == config


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("a: [", "not valid YAML"), ("- 1", "must hold sections"), ("model: 3", "model: ")],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        load(path)


def test_fingerprint_covers_what_decides_the_data_and_nothing_else() -> None:
    base = configuration.data_fingerprint(Config())
    assert configuration.data_fingerprint(configuration.with_values(Config(), {"optimizer.lr": 1.0})) == base
    for path, value in {"corpus.train": ["x"], "tokenizer.kind": "char", "data.shard_tokens": 2048}.items():
        assert configuration.data_fingerprint(configuration.with_values(Config(), {path: value})) != base
