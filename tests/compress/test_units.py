"""Removing units that nothing reads changes no logit, in any cell; a smaller model is tuned and compared."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import compress
from jobs.shared.cli import run_job
from pipeline import config as configuration
from pipeline import launch
from pipeline.compress.units import check_removable, embedding_left, numbers_left, saliency, without_units
from pipeline.config import Config
from pipeline.data.tokenizer import train_tokenizer
from pipeline.data.windows import Window
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Loaded
from tests.model.reference import SETTINGS

CELLS = [cell for cell in SETTINGS if cell != "slstm"]
FORMS: list[dict[str, Any]] = [
    {"hidden_size": [8, 6, 10], "num_layers": 3, "embedding_size": 5},
    {"hidden_size": 8, "num_layers": 2, "tie_weights": True},
    {"hidden_size": [8, 10], "num_layers": 2, "tie_weights": True, "embedding_size": 6},
    {"hidden_size": 8, "num_layers": 1, "qrnn_wide_layers": "all"},
]


def make(**changes: Any) -> Loaded:
    config = configuration.with_values(
        configuration.load(), {f"model.{name}": value for name, value in {"init_range": 0.5, **changes}.items()}
    )
    tokenizer = train_tokenizer(config.tokenizer.model_copy(update={"kind": "char"}), ["abcdefgh"], num_documents=1)
    torch.manual_seed(0)
    model = LanguageModel(config.model, tokenizer.vocab_size).double().eval()
    return Loaded(model, tokenizer, config, {}, Path())


def window_of(loaded: Loaded) -> Window:
    tokens = torch.randint(loaded.tokenizer.vocab_size, (13, 3), generator=torch.Generator().manual_seed(1)).numpy()
    return Window(inputs=tokens[:-1], targets=tokens[1:], position=0, next_position=12, begins=True)


def logits_of(loaded: Loaded) -> torch.Tensor:
    tokens = torch.from_numpy(window_of(loaded).inputs)
    with torch.no_grad():
        hidden, _ = loaded.model(tokens, loaded.model.initial_state(3))
        return loaded.model.head.logits(hidden)


def rounds_reading(layer: Any, what: str) -> list[str]:
    """A mogrifier's matrices that read ``what``: the hidden vector in round 1, 3, …, the inputs in the others."""
    if not hasattr(layer, "mixers"):
        return []
    size = 1 if layer.rank is None else 2  # (rows, rank) and (rank, columns): the second one reads
    rounds = range(0 if what == "hidden" else 1, layer.num_rounds, 2)
    return [f"mixers.{size * index + size - 1}" for index in rounds]


def leave_unread(model: Any, units: list[torch.Tensor]) -> None:
    layers = model.recurrence.layers
    with torch.no_grad():
        for index, (layer, gone) in enumerate(zip(layers, units, strict=True)):
            for name, weight in layer.named_parameters():
                if name.startswith("weight_hh") or name in rounds_reading(layer, "hidden"):
                    weight[:, gone] = 0
            if index + 1 < len(layers):
                for name, weight in layers[index + 1].named_parameters():
                    if name in ("weight", "weight_ih_l0", *rounds_reading(layers[index + 1], "inputs")):
                        weight.unflatten(1, (-1, layer.hidden_size))[:, :, gone] = 0
        (model.head if model.projection is None else model.projection).weight[:, units[-1]] = 0


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("form", FORMS)
def test_units_that_nothing_reads_are_removed_exactly(cell: str, form: dict[str, Any]) -> None:
    loaded = make(**SETTINGS[cell], **form)
    sizes = loaded.config.model.layer_sizes
    unread = [torch.randperm(size, generator=torch.Generator().manual_seed(size))[: size // 2] for size in sizes]
    leave_unread(loaded.model, unread)
    expected = logits_of(loaded)
    smaller = without_units(loaded, 0.5, [window_of(loaded)])
    assert smaller.config.model.layer_sizes == [size - size // 2 for size in sizes]
    for scores, units in zip(saliency(loaded.model, [window_of(loaded)]), unread, strict=True):
        assert scores[units].abs().max() == 0
    assert smaller.model.num_parameters < loaded.model.num_parameters
    torch.testing.assert_close(logits_of(smaller), expected, rtol=0, atol=1e-12)


def test_a_projection_is_kept_and_models_that_cannot_be_cut_are_refused() -> None:
    projected = make(hidden_size=10, num_layers=1, tie_weights=True, embedding_size=5)
    assert without_units(projected, 0.5, [window_of(projected)]).config.model.layer_sizes == [6]
    for changes, reason in (
        ({"residual": True}, "units cannot be removed with .*model.residual"),
        ({"head": "mixture"}, "model.head must be softmax"),
        ({"cell": "slstm"}, "an slstm: the norm of each head"),
    ):
        other = make(hidden_size=8, **changes)
        with pytest.raises(ValueError, match=f"^units: .*{reason}"):
            without_units(other, 0.5, [window_of(other)])


def test_a_share_that_leaves_too_few_units_is_refused_before_anything_is_read() -> None:
    """The matrices of a low-rank mogrifier must stay thinner than the layers."""
    loaded = make(hidden_size=8, embedding_size=8, num_layers=1, mogrifier_rounds=2, mogrifier_rank=4)
    check_removable(loaded.config, loaded.model, [0.25])  # of 8 units 6 are left, more than the rank
    with pytest.raises(ValueError, match=r"^units: without 0\.5 of the units, model\.mogrifier_rank: must be less"):
        check_removable(loaded.config, loaded.model, [0.25, 0.5])


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_left_is_known_before_it_is_chosen(form: dict[str, Any], share: float) -> None:
    loaded = make(cell="lstm", **form)
    smaller = without_units(loaded, share, [window_of(loaded)])
    assert smaller.config.model.layer_sizes == numbers_left(loaded.model, share)
    assert smaller.model.embedding.embedding_dim == embedding_left(loaded.model, share)


def test_a_smaller_model_is_tuned_with_the_ordinary_loop(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config({"train.max_steps": 60, "model.tie_weights": True, "train.epochs": 9})
    launch.train(config, launch.in_process)
    output = tmp_path / "small"
    arguments = ["--run", str(config.run.directory), "--output", str(output), "--tokens", "5", "--prune"]
    for wrong, sentence in (["--units", "1"], "--units: 1.0 is not in [0, 1)"), (
        ["--fine-tune-steps", "5"], "--fine-tune-steps: there is nothing to tune without --units"
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            run_job(compress.main, [*arguments, *wrong])
        assert sentence in capsys.readouterr().err
    assert not output.exists()
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run_job(compress.main, [*arguments, "--units", "0.5", "--fine-tune-steps", "80", "--json"])
        assert torch.get_num_threads() == 3  # not the one of the tuning run
    finally:
        torch.set_num_threads(num_threads)
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["variants"]}
    assert list(rows)[-2:] == ["units-0.5", "units-0.5-tuned"]
    assert rows["units-0.5-tuned"]["perplexity"] < rows["units-0.5"]["perplexity"]
    assert rows["units-0.5-tuned"]["bytes"] < 0.6 * rows["float32"]["bytes"]
    again = checkpoint.load_model(output / "units-0.5-tuned")
    assert again.config.model.layer_sizes == [6, 6]
    assert again.manifest["perplexity"] > 1
    assert "perplexity" not in checkpoint.load_model(output / "units-0.5").manifest
    assert again.manifest["step"] == 80
    assert (output / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_is_tuned_again_if_the_weights_have_changed(
    make_config: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"train.max_steps": 20, "train.epochs": 9, "optimizer.schedule": "constant"}
    config = make_config(changes)
    launch.train(config, launch.in_process)
    output = tmp_path / "small"
    arguments = ["--run", str(config.run.directory), "--output", str(output), "--tokens", "5", "--prune"]
    arguments += ["--units", "0.5", "--fine-tune-steps", "10", "--json"]

    def tuned() -> tuple[float, str]:
        run_job(compress.main, arguments)
        printed = capsys.readouterr().out
        return json.loads(printed.splitlines()[-1])["variants"][-1]["perplexity"], printed

    before, _ = tuned()
    assert tuned()[0] == before  # the tuning run is finished and has the same weights
    assert not (output / "units-0.5-run.old-1").exists()
    launch.train(configuration.with_values(config, {"train.max_steps": 60}), launch.in_process)
    after, printed = tuned()
    assert f"{output}/units-0.5-run held a run of other weights or with other --fine-tune-steps; set aside" in printed
    assert after < 0.95 * before
    assert checkpoint.find(output / "units-0.5-run.old-1", "last").name == "step-00000010"
    assert checkpoint.find(output / "units-0.5-run", "last").name == "step-00000010"
    assert tuned()[0] == after
    arguments[arguments.index("10")] = "6"  # not what ten steps have made
    assert tuned()[0] > after
    assert checkpoint.load_model(output / "units-0.5-tuned").manifest["step"] == 6
    assert checkpoint.find(output / "units-0.5-run.old-2", "last").name == "step-00000010"
