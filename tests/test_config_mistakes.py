"""Mistakes in the settings: all at once, each in a sentence that names the setting or the file."""

import random
import re
import time
from pathlib import Path

import pytest

from pipeline import config as configuration
from pipeline.config import Config, load
from pipeline.config.yaml_text import parse
from pipeline.errors import Notice, UserError
from tests import absurd

# each mapping merges the one before it: in a chain of 3,000, and nine times each
MERGES = "x: [&m0 {a: 1}" + "".join(f", &m{n} {{<<: *m{n - 1}}}" for n in range(1, 3000))
NINEFOLD = "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}\n" for n in range(1, 9))


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
    ("override", "sentence"),
    [
        (
            "run.directory=s3://bucket/run",
            "run.directory: s3://bucket/run is not a folder; a run needs one that every worker writes to "
            "(data may be in a bucket)",
        ),
        (
            "model.cell=lstmm",
            "model.cell: must be 'rnn', 'lstm', 'gru', 'gru_reset_before', "
            "'mingru', 'minlstm', 'qrnn', 'slstm' or 'transformer', not 'lstmm'",
        ),
        ("cluster.num_workers=many", "cluster.num_workers: must be a whole number of at least 1, or auto, not 'many'"),
        ("model=3", "model: is a section; set one of its fields, model.field=value"),
        ("hidden_size=3", "hidden_size: unknown setting; did you mean model.hidden_size?"),
        ("train.lr=0.1", "train.lr: unknown setting; did you mean optimizer.lr?"),
        ("run.seed=1", "run.seed: unknown setting; did you mean train.seed or search.seed?"),
        ("search.metric=loss", "search.metric: unknown setting; a search compares validation perplexity"),
        ("train.hiden_size=3", "train.hiden_size: unknown setting; did you mean model.hidden_size?"),
        ("model.nhid=3", "model.nhid: unknown setting; did you mean model.hidden_size?"),
        ("quantum.flux=3", "quantum: unknown setting"),
        ("mine.yaml", "mine.yaml: must be a setting and its value, section.field=value"),
        ("=3", "=3: must be a setting and its value, section.field=value"),
        (
            "optimizer.decay_at_epochs=[-3]",
            "optimizer.decay_at_epochs: must be different numbers of epochs of at least 1, not [-3]",
        ),
        (
            "optimizer.decay_at_epochs=[5, 5]",
            "optimizer.decay_at_epochs: must be different numbers of epochs of at least 1, not [5, 5]",
        ),
        ("train.bptt=true", "train.bptt: must be a number, not true"),
        ("optimizer.lr=yes", "optimizer.lr: must be a number, not true"),
        ("corpus.weights=[1, off]", "corpus.weights: must be a number, not false"),
        ("model.hidden_size=[8, true]", "model.hidden_size: must be a number, not true"),
        ("cluster.num_workers=true", "cluster.num_workers: must be a number, not true"),
        ("optimizer.lr=.inf", "optimizer.lr: must be a finite number, not inf"),
        ("optimizer.lr='nan'", "optimizer.lr: must be a finite number, not 'nan'"),
        (
            "model.hidden_size=99999999999999999999",
            "model.hidden_size: must be at most 100,000, not 99999999999999999999",
        ),
        (
            "train.bptt=0x" + "f" * 50,
            "train.bptt: must be at most 9,223,372,036,854,775,807, not a number of 60 digits",
        ),
        ("corpus.weights=[1e300]", "corpus.weights: must be less than or equal to 10000, not '1e300'"),
        ("search.space={train.bptt: [1], train.bptt: [2]}", "search.space: train.bptt is given twice"),
        (
            "search.space={optimizer.lr:0.1}",
            "search.space: a space is missing after the colon: write optimizer.lr: 0.1",
        ),
        ("train.epochs=three", "train.epochs: must be a whole number, not 'three'"),
        ("train.epochs=2.5", "train.epochs: must be a whole number, not 2.5"),
        ("optimizer.lr=fast", "optimizer.lr: must be a number, not 'fast'"),
        ("model.residual=maybe", "model.residual: must be true or false, not 'maybe'"),
        ("train.bptt=010", "train.bptt: 010 is 8 in YAML; write that, or a text in quotes"),
    ],
)
def test_one_sentence_for_one_mistake(override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=r"^\S+: ") as caught:
        load(None, [override])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("overrides", "setting"),
    [
        (["cluster.num_workers=5", "train.batch_size=4"], "cluster.num_workers"),
        (["cluster.num_workers=2", "cluster.backend=local"], "cluster.num_workers"),
        (["corpus.valid_fraction=0.6", "corpus.test_fraction=0.5"], "corpus.valid_fraction"),
        (["corpus.min_characters=5", "corpus.max_characters=2"], "corpus.min_characters"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str], setting: str) -> None:
    with pytest.raises(ValueError, match=rf"^{setting}: "):
        load(None, overrides)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: [", r"bad\.yaml: not valid YAML: expected the node content, .* \(line 1, column 5\)$"),
        ("- 1", r"bad\.yaml must hold sections \(corpus:, model:, …\)$"),
        ("Once upon a time", r"must hold sections .*; for a text, write corpus\.train=\S+bad\.yaml$"),
        ("model: 3", "^model: must be a section of settings, not 3$"),
        ("model:\n  hidden_size: 3\n\nmodel:\n  dropout: 0.1\n", r"bad\.yaml: model is given twice, in lines 1 and 4$"),
        ("model: {num_layers: 1, num_layers: 1}", r"bad\.yaml: num_layers is given twice$"),
        (
            "search:\n  space:\n    train.bptt: [1]\n    train.bptt: [2]",
            "bptt is given twice, in lines 3 and 4$",
        ),
        ("train:\n  bptt: 010", r"010 is 8 in YAML; write that, or a text in quotes \(line 2\)$"),
        ("train: {reset_every_windows: 1:30}", "1:30 is 90 in YAML"),
        ("train:\n  bptt:64", "^train: a space is missing after the colon: write bptt: 64$"),
        (
            "train:\n  bptt:64\n  epochs: 3",
            r"\(line 3, column 9\); a space is missing after the colon: write bptt: 64$",
        ),
        ("train: {bptt:64}", r"bad\.yaml: a space is missing after the colon: write bptt: 64$"),
        ("train:64", r"bad\.yaml: a space is missing after the colon: write train: 64$"),
        ("x: " + "9" * 5000, "is not a valid int"),
        ("x: !!timestamp soon", "'soon' is not a valid timestamp"),
        ("x: !!python/name:os.system", "could not determine a constructor"),
        ("[" * 3000, "nested more than 20 levels deep"),
        ("model: &x {a: *x}", "nested more than 20 levels deep"),
        ("- " * 3000 + "1", "nested more than 20 levels deep"),
        (MERGES + "]\n<<: *m2999\n", "nested more than 20 levels deep"),
        (NINEFOLD, "more than 1,000,000 values$"),
        ("a: [&x 1, &x 2]", r"not valid YAML: found duplicate anchor 'x' \(line 1, column 11\)$"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("1: 2", "^1: keys should be strings"),
        ("train.bptt: 3", r"^train\.bptt: is not a section; in a file, write train: and below it bptt: …$"),
        ("hidden_size: 3", r"^hidden_size: unknown setting; did you mean model\.hidden_size\?$"),
        ('run: {directory: "a\\0"}', r"^run\.directory: must be text in UTF-8 without zero bytes, not 'a\\x00'$"),
        ('run: {directory: "\\ud800"}', r"^run\.directory: must be text in UTF-8"),
        ("run: {directory: 3}", r"^run\.directory: must be a text \(in quotes"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        load(path)


def test_any_value_of_any_setting_is_accepted_or_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "again.yaml"
    for path in absurd.settings():
        section, _, field = path.partition(".")
        others = [name for name in Config.model_fields if name != section]
        started, config = time.monotonic(), Config()
        for value in absurd.VALUES:
            lines = []
            try:
                config = configuration.validate({section: {field: value}})
            except UserError as error:
                lines = str(error).splitlines()
            assert len(lines) <= 1, (path, value, lines)
            assert not lines or re.fullmatch(r"\w+\.\w+: .{,400}", lines[0]), (path, value, lines)
            assert configuration.with_values(config, {path: configuration.get(config, path)}) == config
        file.write_text(configuration.to_yaml(config, without=others), encoding="utf-8")
        assert configuration.validate(parse(file.read_text())) == config
        assert time.monotonic() - started < 10, path


def test_any_text_as_an_override_is_accepted_or_refused_in_sentences() -> None:
    source = random.Random(3)
    pieces = [
        *"{}[]:,-.=<'%@|01e_#é?~",
        '"',
        "a",
        "train",
        "&x ",
        "*x",
        "!!",
        "int ",
        "null",
        "true",
        "0x",
        "2024-13-01",
    ]
    for _ in range(700):
        path = source.choice(absurd.settings()) if source.random() < 0.8 else "".join(source.choices(pieces, k=3))
        override = f"{path}={''.join(source.choices([*pieces, ' ', chr(9), chr(10)], k=source.randint(1, 9)))}"
        lines = ["taken"]
        try:
            load(None, [override])
        except UserError as error:
            lines = str(error).splitlines()
        assert 1 <= len(lines) <= 6, override


def test_removed_settings_are_refused_with_what_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("ddp: {static_graph: true}\ntrain: {accumulate: 2, gradient_accumulation_steps: 3}\n")
    with pytest.warns(Notice), pytest.raises(UserError) as caught:
        load(path, ["ddp.bucket_megabytes=5"])
    assert str(caught.value).splitlines() == [
        "ddp.static_graph: is no longer a setting: DDP examines every step afresh, which takes no longer; leave it out",
        "train.accumulate: is now called train.gradient_accumulation_steps, which is set as well",
        "ddp.bucket_megabytes: is no longer a setting: gradients are exchanged in buckets of 25 MB, and no other size "
        "was faster",
    ]


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("nowhere.yaml", "^base: no such file: nowhere.yaml$"),
        ("[1]", r"^base: must be the path of a YAML file, not \[1\]$"),
        ("{here}/again.yaml", r"^base: .*again\.yaml has a base of its own"),
        ("{here}/list.yaml", r"^base: .*list\.yaml must hold sections"),
    ],
)
def test_an_invalid_base_is_refused(tmp_path: Path, base: str, sentence: str) -> None:
    (tmp_path / "again.yaml").write_text("base: x.yaml\n")
    (tmp_path / "list.yaml").write_text("[1]\n")
    (tmp_path / "mine.yaml").write_text(f"base: {base.format(here=tmp_path)}\n")
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / "mine.yaml")
