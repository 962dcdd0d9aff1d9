"""A checkpoint is complete or not there, and any damage to it is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline import launch, run, signing, status
from pipeline.config import Config
from pipeline.training import checkpoint
from pipeline.training.directory import RunDirectory
from pipeline.training.monitor import read


@pytest.fixture
def trained(make_config: Callable[..., Config]) -> Config:
    config = make_config({"train.max_steps": 9, "train.checkpoint_every_steps": 3, "train.evaluate_every_steps": 6})
    launch.train(config, launch.in_process)
    return config


def checkpoints(config: Config) -> list[str]:
    return sorted(path.name for path in (Path(str(config.run.directory)) / "checkpoints").iterdir())


def records_of(config: Config) -> list[dict[str, Any]]:
    return list(read(Path(str(config.run.directory)) / "metrics.jsonl"))


def test_last_k_and_best_are_kept(make_config: Callable[..., Config]) -> None:
    # a learning rate that destroys what was learnt: the first validation stays the best
    config = make_config(
        {
            "train.max_steps": 12,
            "train.evaluate_every_steps": 2,
            "optimizer.name": "sgd",
            "optimizer.lr": 50.0,
            "optimizer.schedule": "constant",
            "train.clip_norm": 1.0,
        }
    )
    result = launch.train(config, launch.in_process)
    kept = checkpoints(config)
    assert kept[-2:] == ["step-00000010", "step-00000012"]
    best = {path.name: manifest["perplexity"] for path, manifest in checkpoint.manifests(str(config.run.directory))}
    assert Path(result["checkpoint"]).name == min(best, key=lambda name: best[name])
    assert len(kept) <= 3


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_loaded_model_is_the_saved_one(make_config: Callable[..., Config], precision: str) -> None:
    config = make_config({"train.max_steps": 2, "train.precision": precision, "model.dropout": 0.5})
    launch.train(config, launch.in_process)
    path = checkpoint.find(str(config.run.directory), "last")
    loaded = checkpoint.load_model(path)
    assert loaded.manifest["step"] == 2
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("the cat")) == "the cat"
    saved = load_file(path / "weights.safetensors")
    assert {str(weight.dtype) for weight in saved.values()} == {f"torch.{precision}"}
    for name, weight in loaded.model.state_dict().items():
        assert weight.dtype == saved[name].dtype
        assert torch.equal(weight, saved[name])
    assert not loaded.model.training


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", "config.yaml", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_named_and_an_older_checkpoint_taken(trained: Config, name: str, damage: str) -> None:
    directory = str(trained.run.directory)
    last = checkpoint.find(directory, "last")
    file = last / name
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[:-1])
    with pytest.raises(ValueError, match=name):
        checkpoint.load_model(last)
    found = checkpoint.newest(directory)
    assert found is not None
    assert found[0] == last.with_name("step-00000006")


def test_a_damaged_checkpoint_is_set_aside_and_no_good_one_is_dropped_for_it(
    make_config: Callable[..., Config],
) -> None:
    changes = {"train.checkpoint_every_steps": 3, "optimizer.schedule": "constant", "train.keep_checkpoints": 1}
    config = make_config({**changes, "train.max_steps": 9, "corpus.valid_fraction": 0.0, "train.keep_checkpoints": 2})
    launch.train(config, launch.in_process)
    last = checkpoint.find(str(config.run.directory), "last")
    (last / "weights.safetensors").write_bytes(b"damaged")
    (last.with_name(".writing-step-00000008")).mkdir()
    sooner = make_config({**changes, "train.max_steps": 8, "corpus.valid_fraction": 0.0})
    launch.train(sooner, launch.in_process)
    assert checkpoints(config) == ["damaged-step-00000009", "step-00000008"]
    (warning,) = [record["text"] for record in records_of(config) if record["kind"] == "warning"]
    assert "weights.safetensors: 7 bytes where" in warning
    assert warning.endswith("set aside as damaged-step-00000009")


def test_a_half_written_checkpoint_is_not_seen(trained: Config) -> None:
    directory = Path(str(trained.run.directory))
    last = checkpoint.find(directory, "last")
    for name in (".writing-step-00000099", ".former-step-00000006", ".dropped-step-00000003"):
        shutil.copytree(last, last.with_name(name))
    assert checkpoint.find(directory, "last") == last
    last.rename(last.with_name(".former-step-00000009"))
    assert checkpoint.clear_up(RunDirectory(directory)) == []
    assert checkpoints(trained) == ["step-00000006", "step-00000009"]
    last.rename(last.with_name("step-00000012"))
    (sentence,) = checkpoint.clear_up(RunDirectory(directory))
    assert sentence.endswith("is of step 9, which is not that of its folder; set aside as damaged-step-00000012")


def test_a_checkpoint_whose_removal_was_cut_off_by_a_kill_is_not_read(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"train.max_steps": 9, "train.checkpoint_every_steps": 3, "train.keep_checkpoints": 1}
    config = make_config({**changes, "corpus.valid_fraction": 0.0})
    remove = shutil.rmtree

    def killed(path: Path, *, ignore_errors: bool = False) -> None:
        if (path / "manifest.json").exists() and "writing" not in path.name:
            (path / "weights.safetensors").unlink()
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        launch.train(config, launch.in_process)
    monkeypatch.undo()
    assert checkpoints(config) == [".dropped-step-00000003", "step-00000006"]
    launch.train(config, launch.in_process)
    assert checkpoints(config) == ["step-00000009"]
    assert not [record for record in records_of(config) if record["kind"] == "warning"]


def test_no_checkpoint_is_a_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint there"):
        checkpoint.find(tmp_path)


def test_another_run_is_refused_with_both_values(trained: Config) -> None:
    from pipeline import config as configuration

    for change, sentence in [
        ({"model.hidden_size": 13}, r"model\.hidden_size: .* 12 .* 13"),
        ({"optimizer.lr": 0.5}, r"optimizer\.lr: .* 0\.01 .* 0\.5"),
        ({"train.seed": 2}, r"train\.seed: .* 1 .* 2"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            launch.train(configuration.with_values(trained, change), launch.in_process)


def test_a_run_on_another_corpus_is_refused(trained: Config, tmp_path: Path) -> None:
    path = checkpoint.find(str(trained.run.directory), "last")
    manifest = checkpoint.verify(path)
    del manifest["checksum"]
    manifest["fingerprints"]["tokenizer"] = "other"
    (path / "manifest.json").write_text(json.dumps(signing.sign(manifest)))
    with pytest.raises(ValueError, match="another tokenizer"):
        status.check(trained, run.open_prepared(trained.data.directory), num_workers=1)
