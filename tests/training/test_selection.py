"""The checkpoint that is asked for is taken, or none is."""

import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.training import checkpoint, selection
from pipeline.training.manifest import verify
from tests.damage import flipped
from tests.training.test_manifest import FACTS


def write(run: Path, step: int, perplexity: float | None = None, **facts: Any) -> Path:
    """Write a checkpoint of ``step`` whose files have arbitrary content, and rename it into place as a run does."""
    temporary = run / "checkpoints" / f".writing-step-{step:08d}"
    temporary.mkdir(parents=True)
    for name in ("weights.safetensors", "state.pt", "config.yaml", "tokenizer.json"):
        (temporary / name).write_text(f"of {step}")
    validated = {"loss": math.log(perplexity), "perplexity": perplexity} if perplexity is not None else {}
    unvalidated = {name: value for name, value in FACTS.items() if name not in ("loss", "perplexity", "bits_per_byte")}
    checkpoint.write_manifest(temporary, {**unvalidated, **validated, "step": step, **facts})
    return temporary.rename(temporary.with_name(f"step-{step:08d}"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was validated at steps 3, 6 and 9, best at 6, with its last checkpoint at 12."""
    for step, perplexity in ((3, 9.0), (6, 7.0), (9, 8.0), (12, None)):
        write(tmp_path / "run", step, perplexity, best_perplexity=min(perplexity or 9.0, 9.0 if step == 3 else 7.0))
    return tmp_path / "run"


def damage(path: Path) -> None:
    data = path.read_bytes()
    place = data.index(b"tokens") if path.name == "manifest.json" else len(data) // 2
    path.write_bytes(flipped(data, 8 * place))


def folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def test_best_last_and_newest(run: Path) -> None:
    assert [selection.find(run, which) for which in ("best", "last")] == [folder(run, 6), folder(run, 12)]
    found = selection.newest(run)
    assert found == (folder(run, 12), verify(folder(run, 12)))
    assert selection.choose(run).remark == ""
    write(run, 100_000_000)  # one digit more
    assert selection.find(run, "last") == folder(run, 100_000_000)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "config.yaml", "tokenizer.json", "manifest.json"])
def test_a_damaged_best_checkpoint_is_not_replaced_by_another(run: Path, name: str) -> None:
    damage(folder(run, 6) / name)
    with pytest.raises(UserError) as refused:
        selection.find(run, "best")
    said = str(refused.value)
    assert said.startswith(f"{folder(run, 6) / name}: altered since it was written")
    assert said.endswith(
        f"to take another, name it: the folder {folder(run, 12)} or the folder {folder(run, 9)} "
        f"or the folder {folder(run, 3)}"
    )
    reason = (
        "so which checkpoint is the best is not known" if name == "manifest.json" else "this is the best checkpoint"
    )
    assert reason in said
    assert selection.find(run, "last") == folder(run, 12)


def test_any_damaged_manifest_leaves_the_best_unknown(run: Path) -> None:
    (folder(run, 3) / "manifest.json").unlink()
    with pytest.raises(
        UserError, match=r"00000003/manifest\.json: missing, so which checkpoint is the best is not known"
    ):
        selection.find(run)
    damage(folder(run, 9) / "weights.safetensors")  # damage to another file of another checkpoint does not
    with pytest.raises(UserError, match="not known"):
        selection.find(run)
    assert [path for path, _ in selection.manifests(run)] == [folder(run, step) for step in (6, 9, 12)]


def test_only_a_run_that_continues_replaces_a_damaged_last_checkpoint_by_another(run: Path) -> None:
    damage(folder(run, 12) / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt: altered .* this is the last checkpoint; to take another"):
        selection.find(run, "last")
    found = selection.newest(run)
    assert found is not None
    assert found[0] == folder(run, 9)


def test_a_run_without_an_intact_checkpoint_does_not_start_over(run: Path) -> None:
    for step in (3, 6, 9, 12):
        damage(folder(run, step) / "manifest.json")
    with pytest.raises(UserError, match=r"manifest\.json: altered .* has no checkpoint that is whole$"):
        selection.newest(run)
    with pytest.raises(UserError, match="there is no other that is whole"):
        selection.find(run, "last")


def test_a_folder_of_another_step_is_not_trusted(run: Path) -> None:
    folder(run, 12).rename(folder(run, 13))
    with pytest.raises(UserError, match=r"00000013/manifest\.json: is of step 12, which is not that of its folder"):
        selection.find(run, "best")


def test_a_best_checkpoint_that_is_gone_is_reported(run: Path) -> None:
    folder(run, 6).rename(folder(run, 6).with_name("damaged-step-00000006"))
    choice = selection.choose(run)
    assert (choice.path, choice.which) == (folder(run, 9), "best left")
    assert choice.remark == (
        "the best checkpoint of this run (validation perplexity 7.00) no longer exists; "
        "step-00000009 is the best of those left"
    )


def test_a_perplexity_that_is_not_finite_is_not_the_best(tmp_path: Path) -> None:
    for step, perplexity in ((3, math.inf), (6, 7.0), (9, math.inf), (12, 7.0)):
        write(tmp_path, step, perplexity)
    assert selection.find(tmp_path) == folder(tmp_path, 6)
    for step in (15, 18):
        write(tmp_path / "diverged", step, math.nan, best_perplexity=math.nan)
    choice = selection.choose(tmp_path / "diverged")
    assert (choice.path.name, choice.which, choice.remark) == ("step-00000018", "last", "")


def test_the_refusal_of_a_path_without_a_checkpoint_says_what_it_is(tmp_path: Path, run: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for path in ("search/trials/a", "corpus", "export", "saved", "models/float32", "models/bf16"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("corpus/train-00000.arrow", "corpus/manifest.json", "export/model.onnx", "saved/metrics.jsonl"):
        (tmp_path / path).touch()
    for name in ("float32", "bf16"):
        (tmp_path / "models" / name / "weights.safetensors").touch()
    for path, sentence in [
        ("nothing", "there is no such directory"),
        ("file", "it is a file"),
        ("empty", "it is empty"),
        ("search", "it is a search; name one of its trials"),
        ("corpus", "it is a prepared corpus"),
        ("export", "it is a model exported as ONNX"),
        ("saved", "it is a run that has not saved one yet"),
        ("models", "it holds several; name one of them, bf16 or float32"),
        ("run/checkpoints", "it holds several; name one of them, step-00000003 or step-00000006 or step-00000009"),
    ]:
        with pytest.raises(UserError, match=f"{path}: no checkpoint there .{sentence}"):
            selection.choose(tmp_path / path)


def test_a_model_is_loaded_from_a_run_and_from_a_folder(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.max_steps": 6, "train.checkpoint_every_steps": 3})
    result = launch.train(config, launch.in_process)
    run = Path(str(config.run.directory))
    for path, which, title in [
        (run, None, "step-00000006 (best)"),
        (run, "last", "step-00000006 (last)"),
        (Path(result["checkpoint"]), None, "step-00000006"),
    ]:
        loaded = checkpoint.load_model(path, which=which)
        assert (loaded.title, str(loaded.path)) == (title, result["checkpoint"])
    with pytest.raises(UserError, match=r"^checkpoint: .*step-00000006 is one checkpoint itself; leave out last"):
        checkpoint.load_model(result["checkpoint"], which="last")


def test_a_run_that_has_lost_its_best_checkpoint_says_so_with_its_result(make_config: Callable[..., Config]) -> None:
    # a learning rate that destroys what was learnt: the first validation stays the best
    changes = {"optimizer.name": "sgd", "optimizer.lr": 500.0, "train.max_steps": 6, "train.evaluate_every_steps": 3}
    config = make_config({**changes, "optimizer.schedule": "constant", "train.clip_norm": 1.0})
    sentences: list[str] = []
    run = Path(str(config.run.directory))
    result = launch.train(config, launch.in_process, say=sentences.append)
    assert result["checkpoint"] == str(folder(run, 3))
    assert not sentences
    whole = (folder(run, 3) / "weights.safetensors").read_bytes()
    damage(folder(run, 3) / "weights.safetensors")
    with pytest.raises(UserError, match=r"00000003/weights\.safetensors: altered .* and this is the best checkpoint"):
        launch.train(config, launch.in_process)
    (folder(run, 3) / "weights.safetensors").write_bytes(whole)
    folder(run, 3).rename(folder(run, 3).with_name("damaged-step-00000003"))
    left = launch.train(config, launch.in_process, say=sentences.append)
    assert left["checkpoint"] == str(folder(run, 6))
    assert left["perplexity"] > result["perplexity"]
    assert sentences[-1].endswith("no longer exists; step-00000006 is the best of those left")


def test_initial_weights_are_of_the_best_checkpoint_or_refused(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({"train.max_steps": 6, "train.checkpoint_every_steps": 3})
    launch.train(config, launch.in_process)
    run = str(config.run.directory)
    damage(folder(Path(run), 6) / "weights.safetensors")
    changes = {"train.initial_weights": run, "run.directory": str(tmp_path / "tuned")}
    tuned = configuration.with_values(config, changes)
    with pytest.raises(UserError, match=r"train\.initial_weights: .*altered .* name it: the folder .*step-00000003$"):
        launch.train(tuned, launch.in_process)
    assert not (tmp_path / "tuned").exists()
    within = configuration.with_values(config, {"train.initial_weights": run})
    with pytest.raises(
        UserError, match=r"train\.initial_weights: .* lies in run\.directory, which starting over sets aside"
    ):
        launch.train(within, launch.in_process, fresh=True)
    launch.train(
        configuration.with_values(tuned, {"train.initial_weights": str(folder(Path(run), 3))}), launch.in_process
    )


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        ({"model.residual": True}, {"model.residual": False}),
        ({"model.cell": "slstm"}, {"model.cell": "slstm", "model.slstm_forget_gate": "exponential"}),
        ({"model.cell": "transformer", "model.num_heads": 2}, {"model.cell": "transformer", "model.num_heads": 4}),
        ({"model.attention": 1}, {"model.attention": 2}),
        (
            {"model.head": "adaptive", "model.tie_weights": True, "model.adaptive_cutoffs": [5]},
            {"model.head": "adaptive", "model.tie_weights": True, "model.adaptive_cutoffs": [9]},
        ),
    ],
)
def test_initial_weights_of_a_model_that_computes_something_else_are_refused(
    make_config: Callable[..., Config], tmp_path: Path, theirs: dict[str, Any], own: dict[str, Any]
) -> None:
    small = {"model.hidden_size": 8, "model.num_layers": 2, "train.max_steps": 1, "run.sample_tokens": 0}
    config = make_config({**small, **theirs})
    launch.train(config, launch.in_process)
    changes = {**own, "train.initial_weights": str(config.run.directory), "run.directory": str(tmp_path / "tuned")}
    name, value = list(own.items())[-1]
    said = rf"initial_weights: .* was trained with {name}=.*, not {re.escape(str(value))}$"
    with pytest.raises(UserError, match=said):
        launch.train(configuration.with_values(config, changes), launch.in_process)


def test_reading_during_a_run_that_drops_checkpoints_finds_the_best_each_time(run: Path) -> None:
    ended = threading.Event()
    written = [7.0]

    def train() -> None:
        for step in range(15, 150):
            written.append(7.0 - step / 100)
            write(run, step, written[-1], best_perplexity=written[-1])
            checkpoint._drop_old(checkpoint.RunDirectory(run), keep=1)
        ended.set()

    thread = threading.Thread(target=train)
    thread.start()
    seen = []
    while not ended.is_set():
        before = written[-2 if len(written) > 1 else -1]
        found = selection.reading(run, None, lambda choice: verify(choice.path))
        assert found["perplexity"] <= before
        seen.append(found["perplexity"])
    thread.join()
    assert len(set(seen)) > 5
    assert seen == sorted(seen, reverse=True)
