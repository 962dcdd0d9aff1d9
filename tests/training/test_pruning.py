"""The cubic schedule and the masks worked by hand; pruned weights stay zero, also after resuming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline import launch
from pipeline.config import Config, PruneConfig
from pipeline.training import checkpoint
from pipeline.training.pruning import Pruning, magnitude_masks, sparsity_at


def test_the_sparsity_rises_by_the_cube_of_the_remaining_time() -> None:
    config = PruneConfig(sparsity=0.8, begin_fraction=0.2, end_fraction=0.6)
    shares = [sparsity_at(config, step, 100) for step in (0, 19, 20, 30, 40, 60, 100)]
    assert shares == pytest.approx([0, 0, 0, 0.8 * (1 - 0.75**3), 0.8 * (1 - 0.5**3), 0.8, 0.8])
    at_once = PruneConfig(sparsity=0.8, begin_fraction=0.5, end_fraction=0.5)
    assert [sparsity_at(at_once, step, 100) for step in (49, 50, 51)] == pytest.approx([0, 0.8, 0.8])


def test_the_smallest_weights_of_all_or_of_each_matrix_are_pruned() -> None:
    matrices = [torch.tensor([[1.0, -2.0], [3.0, -4.0]]), torch.tensor([[10.0, -0.5]])]
    each = magnitude_masks(matrices, 0.5, "matrix")
    assert [mask.tolist() for mask in each] == [[[False, False], [True, True]], [[True, False]]]
    together = magnitude_masks(matrices, 0.5, "all")
    assert [mask.tolist() for mask in together] == [[[False, False], [True, True]], [[True, False]]]
    together = magnitude_masks(matrices, 4 / 6, "all")
    assert [mask.tolist() for mask in together] == [[[False, False], [False, True]], [[True, False]]]
    assert all(mask.all() for mask in magnitude_masks(matrices, 0.0, "all"))


def test_pruned_elements_stay_zero_in_weights_and_averages() -> None:
    weight, bias = torch.tensor([[1.0, -2.0, 3.0, 4.0]]), torch.tensor([0.1])
    means = [weight.clone(), bias.clone()]
    pruning = Pruning(PruneConfig(sparsity=0.5, end_fraction=0.5, every_steps=2), [weight, bias], 4)
    pruning.updated(1, means)
    assert weight.tolist() == [[1, -2, 3, 4]]
    pruning.updated(2, means)
    assert weight.tolist() == means[0].tolist() == [[0, 0, 3, 4]]
    weight += 10  # an update
    pruning.updated(3, means)
    assert weight.tolist() == [[0, 0, 13, 14]]
    assert bias.tolist() == [pytest.approx(0.1)]


def test_the_last_update_prunes_whatever_the_interval() -> None:
    weight = torch.arange(1.0, 11.0).unsqueeze(0)
    pruning = Pruning(PruneConfig(sparsity=0.8, begin_fraction=0.0, end_fraction=1.0, every_steps=3), [weight], 5)
    zeros = []
    for step in range(1, 6):
        pruning.updated(step, [])
        zeros.append(int((weight == 0).sum()))
    assert zeros == [0, 0, 7, 7, 8]  # 10 · 0.8 (1 − (2/5)³) is 7.5, of which 0.012 is missing; at the end 10 · 0.8


def test_masks_survive_a_resume(make_config: Callable[..., Config], tmp_path: Path) -> None:
    settings = {
        "prune.sparsity": 0.7, "prune.every_steps": 6, "prune.end_fraction": 0.5, "optimizer.average": "exponential",
        "train.max_steps": 24, "train.checkpoint_every_steps": 10, "train.keep_checkpoints": 9,
    }  # fmt: skip
    whole = make_config({**settings, "run.directory": str(tmp_path / "whole")})
    launch.train(whole, launch.in_process)
    parts = make_config({**settings, "run.directory": str(tmp_path / "parts")})
    launch.train(parts, launch.in_process)
    path = checkpoint.find(tmp_path / "parts", "last")
    for later in sorted(path.parent.iterdir()):
        if later.name > "step-00000010":
            for file in later.iterdir():
                file.unlink()
            later.rmdir()
    state = checkpoint.load_state(path.parent / "step-00000010")
    assert state["pruning"]["masks"]
    launch.train(parts, launch.in_process)
    ends = [load_file(checkpoint.find(tmp_path / name, "last") / "weights.safetensors") for name in ("whole", "parts")]
    for name, weight in ends[0].items():
        assert torch.equal(weight, ends[1][name])
        if weight.dim() > 1:
            assert int((weight == 0).sum()) == round(0.7 * weight.numel())


def test_a_best_checkpoint_from_before_all_was_pruned_is_said(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    settings = {
        "prune.sparsity": 0.9, "prune.every_steps": 5, "prune.end_fraction": 1.0, "train.evaluate_every_steps": 12,
        "train.max_steps": 24,
    }  # fmt: skip
    learns_no_more = [{"tokens": 12 * 60, "settings": {"optimizer.lr": 1e-9}}]

    def said(name: str, **more: Any) -> list[str]:
        values = {key.replace("__", "."): value for key, value in more.items()}
        config = make_config({**settings, **values, "run.directory": str(tmp_path / name)})
        sentences: list[str] = []
        result = launch.train(config, launch.in_process, say=sentences.append)
        weights = load_file(Path(result["checkpoint"]) / "weights.safetensors").values()
        zeros = [(weight == 0).float().mean() for weight in weights if weight.dim() > 1]
        assert all(round(float(share), 2) == (0.72 if name != "good" else 0.9) for share in zeros)
        return [sentence for sentence in sentences if sentence.startswith("prune.sparsity")]

    begins = "prune.sparsity: the best checkpoint, step-00000012, has 72% of its matrices at zero, not 90%; "
    # after update 10 of 24: 0.9 (1 − (14/24)³)
    assert said("worse", train__changes=learns_no_more) == [f"{begins}the last one has"]
    short = {"train__patience": 1, "train__max_steps": 48, "prune__end_fraction": 0.5}
    assert said("short", train__changes=learns_no_more, **short) == [f"{begins}and the run ended before any had"]
    assert said("good", prune__end_fraction=0.1) == []
    # the same run, continued: all was pruned before it was made longer, whatever its present length says
    learns_worse = [{"tokens": 24 * 60, "settings": {"optimizer.lr": 1.0}}]
    longer = {"train__max_steps": 400, "train__patience": 1, "train__changes": learns_worse}
    assert said("good", prune__end_fraction=0.1, **longer) == []


def test_training_begins_with_the_weights_of_another_run(make_config: Callable[..., Config], tmp_path: Path) -> None:
    first = make_config({"train.max_steps": 20})
    trained = launch.train(first, launch.in_process)
    begun = {"train.initial_weights": str(first.run.directory), "run.directory": str(tmp_path / "second")}
    second = make_config({**begun, "train.max_steps": 1, "optimizer.lr": 1e-12, "optimizer.schedule": "constant"})
    result = launch.train(second, launch.in_process)
    assert result["perplexity"] == pytest.approx(trained["perplexity"], rel=1e-6)
    # a run that has begun no longer needs them
    moved = str(tmp_path / "elsewhere")
    Path(str(first.run.directory)).rename(moved)
    assert launch.train(second, launch.in_process) == result
    Path(moved).rename(str(first.run.directory))
    other = make_config({**begun, "run.directory": str(tmp_path / "third"), "model.hidden_size": 11})
    with pytest.raises(ValueError, match=r"^train.initial_weights: .* is not a model of the shape that model"):
        launch.train(other, launch.in_process)
    nothing = make_config({"train.initial_weights": str(tmp_path / "no"), "run.directory": str(tmp_path / "third")})
    with pytest.raises(ValueError, match=r"^train.initial_weights: .*no checkpoint there"):
        launch.train(nothing, launch.in_process)
