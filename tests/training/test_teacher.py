"""Runs with a teacher, a model or its stored logits: resumed, on several ranks, refused if it does not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import teach
from jobs.terminal.progress import Count
from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.data.shards import open_prepared
from pipeline.errors import UserError
from pipeline.training import checkpoint
from pipeline.training.monitor import read
from pipeline.training.teaching.stored import StoredLogits
from tests.training.ranks import Plan, train_on_ranks
from tests.training.test_resume import assert_bitwise_equal, curve, end_state, interrupt_after

MakeConfig = Callable[..., Config]
TEACHER: dict[str, Any] = {
    "model.hidden_size": 24,
    "model.num_layers": 1,
    "train.max_steps": 150,
    "run.sample_tokens": 0,
    "optimizer.lr": 0.02,
}
STUDENT: dict[str, Any] = {
    "model.hidden_size": 10,
    "model.num_layers": 1,
    "train.max_steps": 40,
    "train.evaluate_every_steps": 20,
    "run.sample_tokens": 0,
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> tuple[Path, Path, Path]:
    """A trained teacher's run, its prepared corpus, and its stored logits."""
    folder = tmp_path_factory.mktemp("teacher")
    values = {
        "corpus.train": [str(tiny_text)],
        "corpus.valid_fraction": 0.1,
        "tokenizer.kind": "char",
        "data.directory": str(folder / "data"),
        "run.directory": str(folder / "run"),
        "cluster.backend": "local",
        "cluster.cpus_per_worker": 1,
        "train.bptt": 10,
        "train.batch_size": 6,
        **TEACHER,
    }
    launch.train(configuration.with_values(configuration.load(), values), launch.in_process)
    arguments = ["--teacher", str(folder / "run"), "--data", str(folder / "data"), "--to", str(folder / "stored")]
    teach.main([*arguments, "--top-k", "5", "--temperatures", "1", "2", "--streams", "4", "--burn-in", "20"])
    return folder / "run", folder / "data", folder / "stored"


@pytest.fixture
def make_student(make_config: MakeConfig, taught: tuple[Path, Path, Path]) -> MakeConfig:
    """As ``make_config``, for a student on the teacher's corpus."""
    return lambda changes=None: make_config({**STUDENT, "data.directory": str(taught[1]), **(changes or {})})


def record(config: Config, kind: str = "train") -> list[dict[str, Any]]:
    return [r for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == kind]


WAYS: dict[str, dict[str, Any]] = {
    "beside, all types": {"train.teacher_temperature": 2.0},
    "beside, three types, accumulated, reset": {
        "train.teacher_top_k": 3,
        "train.gradient_accumulation_steps": 2,
        "train.reset_state": "windows",
        "train.reset_every_windows": 3,
    },
    "stored, rotated, bf16": {"train.epoch_order": "rotated", "train.precision": "bf16", "model.dropout": 0.2},
}


def with_teacher(taught: tuple[Path, Path, Path], name: str) -> dict[str, Any]:
    return {**WAYS[name], "train.teacher": str(taught[2 if name.startswith("stored") else 0])}


@pytest.mark.parametrize("name", WAYS)
def test_interrupted_anywhere_and_continued_is_bitwise_equal(
    make_student: MakeConfig, taught: tuple[Path, Path, Path], tmp_path: Path, name: str
) -> None:
    config = make_student(with_teacher(taught, name))
    broken = configuration.with_values(config, {"run.directory": str(tmp_path / "broken")})
    launch.train(config, launch.in_process)
    for num_steps in (3, 10):
        interrupt_after(broken, num_steps)
    launch.train(broken, launch.in_process)
    for figure in ("loss", "divergence"):
        assert curve(config, figure=figure) == curve(broken, figure=figure)
        assert len(curve(config, figure=figure)) == 8
    assert_bitwise_equal(end_state(config), end_state(broken))


def test_losses_do_not_depend_on_the_number_of_workers(
    make_student: MakeConfig, taught: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    plans = []
    for way in (0, 2):
        changes = {"train.precision": "float64", "train.batch_size": 5, "train.teacher": str(taught[way])}
        one = make_student({**changes, "run.directory": str(tmp_path / f"one-{way}")})
        launch.train(one, launch.in_process)
        plans.append((one, configuration.with_values(one, {"run.directory": str(tmp_path / f"two-{way}")})))
    train_on_ranks(2, *(Plan(two) for _, two in plans))
    for one, two in plans:
        for figure in ("loss", "divergence"):
            ours, theirs = curve(one, figure=figure), curve(two, figure=figure)
            assert [step for step, _ in ours] == [step for step, _ in theirs]
            assert [value for _, value in theirs] == pytest.approx([value for _, value in ours], rel=1e-10)
        valid = [[value for _, value in curve(each, "valid", "perplexity")] for each in (one, two)]
        assert valid[1] == pytest.approx(valid[0], rel=1e-10)


def test_a_teacher_that_starting_over_would_set_aside_is_refused(
    make_student: MakeConfig, taught: tuple[Path, Path, Path]
) -> None:
    config = make_student({"train.max_steps": 2})
    launch.train(config, launch.in_process)
    own = configuration.with_values(config, {"train.teacher": str(config.run.directory)})
    with pytest.raises(UserError, match=r"train\.teacher: .* lies in run\.directory, which starting over sets aside"):
        launch.train(own, launch.in_process, fresh=True)


def test_a_teacher_of_weight_zero_changes_no_bit_of_training(
    make_student: MakeConfig, taught: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    alone = make_student({"model.dropout": 0.2})
    measured = make_student(
        {
            "model.dropout": 0.2,
            "train.teacher": str(taught[0]),
            "train.teacher_weight": 0,
            "run.directory": str(tmp_path / "measured"),
        }
    )
    for config in (alone, measured):
        launch.train(config, launch.in_process)
    assert curve(alone) == curve(measured)
    assert curve(alone, "valid") == curve(measured, "valid")
    (weights, state), (other, with_part) = end_state(alone), end_state(measured)
    with_part.pop("teaching")
    assert_bitwise_equal((weights, state), (other, with_part))
    divergences = [value for _, value in curve(measured, figure="divergence")]
    assert divergences[0] > divergences[-1] > 0  # the student comes nearer to the teacher by itself
    assert "divergence" not in record(alone)[0]


def test_the_loss_in_the_record_is_the_cross_entropy(make_student: MakeConfig, taught: tuple[Path, Path, Path]) -> None:
    config = make_student({"train.teacher": str(taught[2]), "train.teacher_weight": 1, "train.max_steps": 5})
    launch.train(config, launch.in_process)
    (line,) = record(config)
    vocab_size = open_prepared(taught[1]).vocab_size
    assert line["loss"] == pytest.approx(np.log(vocab_size), rel=0.1)  # the loss of a model that knows nothing yet
    assert line["perplexity"] == pytest.approx(np.exp(line["loss"]))
    assert 0 < line["divergence"] < line["loss"]


def test_stored_rows_are_the_teacher_s_distributions_of_each_token(taught: tuple[Path, Path, Path]) -> None:
    run, data, folder = taught
    stored, tokens = StoredLogits(folder), open_prepared(data).splits["train"]
    model = checkpoint.load_model(run).model
    places = np.array([1, 2, 17, 4_000, len(tokens) - 1])
    normalizers, types, log_p = stored.rows(places, top_k=4, temperature_index=1)
    for row, place in enumerate(places.tolist()):
        ids = torch.from_numpy(tokens[max(0, place - 200) : place].astype(np.int64))[:, None]
        with torch.no_grad():
            hidden, _ = model(ids, model.initial_state(1))
            log_q = (model.head.logits(hidden[-1:]) / 2).log_softmax(-1).flatten()
        expected, likeliest = log_q.topk(4)
        assert types[row].tolist() == likeliest.tolist()
        assert log_p[row].astype(np.float32) / 2 - normalizers[row] == pytest.approx(expected.numpy(), abs=0.02)


def test_an_interrupted_job_is_continued_and_writes_the_same(
    taught: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data, _ = taught
    monkeypatch.setattr("pipeline.training.teaching.stored.MOST_ROWS", 4_000)
    folder = tmp_path / "stored"
    arguments = ["--teacher", str(run), "--data", str(data), "--to", str(folder), "--top-k", "3", "--streams", "4"]
    first = teach.main(arguments)
    assert first is not None
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == 11  # 18,000 tokens in five files, a file on the origin of each, and the manifest
    for name in ("teacher.json", "train-00003.topk", "train-00004.json"):
        (folder / name).unlink()
    kept = (folder / "train-00002.topk").stat().st_mtime_ns
    told: list[tuple[str, int]] = []
    for name in ("add", "keep"):
        monkeypatch.setattr(Count, name, lambda count, number, name=name: told.append((name, number)))
    assert teach.main(arguments) == first
    assert [name for name, _ in told] == ["keep", "keep", "keep", "add", "add"]
    assert sum(number for _, number in told) == first["tokens"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert (folder / "train-00002.topk").stat().st_mtime_ns == kept
    assert teach.main(arguments) == first  # everything is there already
    with pytest.raises(UserError, match=r"^to: .* holds stored logits with top_k 3; name another folder"):
        teach.main([*arguments[:-3], "4", *arguments[-2:]])
    data_of = bytearray((folder / "train-00001.topk").read_bytes())
    data_of[100] ^= 1
    (folder / "train-00001.topk").write_bytes(data_of)
    with pytest.raises(UserError, match=r"train-00001.topk: altered since it was written"):
        StoredLogits(folder).rows(np.array([5_000]), top_k=2, temperature_index=0)


def test_an_interrupted_job_is_not_continued_with_other_settings(
    taught: tuple[Path, Path, Path], make_student: MakeConfig, tmp_path: Path
) -> None:
    run, data, stored = taught
    folder = tmp_path / "unfinished"
    shutil.copytree(stored, folder)
    (folder / "teacher.json").unlink()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = make_student({"train.max_steps": 1})
    launch.train(other, launch.in_process)
    arguments = ["--teacher", str(run), "--data", str(data), "--to", str(folder), "--top-k", "5", "--streams", "4"]
    same = [*arguments, "--temperatures", "1", "2", "--burn-in", "20"]
    for changed in (
        [*same, "--teacher", str(other.run.directory)], [*same, "--top-k", "4"], [*same, "--temperatures", "1"],
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"^to: .*unfinished holds unfinished stored logits of another teacher"):
            teach.main(changed)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    with pytest.raises(UserError, match=r"^data: no prepared corpus in .*none \(run jobs\.prepare\)"):
        teach.main([*same, "--data", str(tmp_path / "none")])
    teach.main(same)
    assert (folder / "teacher.json").read_bytes() == (stored / "teacher.json").read_bytes()


def test_a_teacher_that_does_not_fit_is_refused_in_a_sentence(
    make_student: MakeConfig, make_config: MakeConfig, taught: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run, _, stored = taught

    def refuses(changes: dict[str, Any], sentence: str, make: MakeConfig = make_student) -> None:
        with pytest.raises(UserError, match=sentence):
            launch.train(make(changes), launch.in_process)
        assert not list(tmp_path.glob("run/checkpoints/*"))

    refuses({"train.teacher": str(tmp_path / "none")}, r"^train.teacher: .*none: no checkpoint there")
    refuses(
        {"train.teacher": str(stored), "train.teacher_temperature": 3}, r"^train.teacher_temperature: 3, but .* 1, 2"
    )
    refuses(
        {"train.teacher": str(stored), "train.teacher_top_k": 6}, r"^train.teacher_top_k: 6, but .* has 5 per token"
    )
    refuses(
        {"train.teacher": str(run), "train.teacher_top_k": 99}, r"^train.teacher_top_k: 99 is more than the \d+ types"
    )
    other = {"tokenizer.kind": "byte", "data.directory": str(tmp_path / "bytes")}
    refuses({**other, "train.teacher": str(run)}, r"^train.teacher: .* another tokenizer than the corpus", make_config)
    refuses({**other, "train.teacher": str(stored)}, r"^train.teacher: .* another tokenizer's types", make_config)
    part = {
        "data.directory": str(tmp_path / "part"),
        "corpus.valid_fraction": 0.2,
        "tokenizer.path": str(taught[1] / "tokenizer.json"),
        "tokenizer.kind": "bpe",
    }
    refuses({**part, "train.teacher": str(stored)}, r"^train.teacher: .* of another corpus than the one", make_config)
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "config.json").write_text(json.dumps({"model_type": "recurray"}))
    refuses({"train.teacher": str(exported)}, r"^train.teacher: .* was exported for transformers; name the run")


def test_a_run_is_not_continued_with_another_teacher(
    make_student: MakeConfig, taught: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "stored"
    shutil.copytree(taught[2], folder)
    config = make_student({"train.teacher": str(folder), "train.max_steps": 5})
    launch.train(config, launch.in_process)
    shutil.rmtree(folder)
    launch.train(config, launch.in_process)  # the run has ended, and needs no teacher any more
    longer = configuration.with_values(config, {"train.max_steps": 8})
    with pytest.raises(UserError, match=r"^train.teacher: .*stored: no checkpoint there"):
        launch.train(longer, launch.in_process)
    arguments = ["--teacher", str(taught[0]), "--data", str(taught[1]), "--to", str(folder), "--top-k", "4"]
    teach.main(arguments)
    with pytest.raises(UserError, match=r"was trained on another teacher than the one prepared now"):
        launch.train(longer, launch.in_process)
