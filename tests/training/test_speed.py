"""Where the time goes, what a run uses, and a trace of it."""

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline import config as configuration
from pipeline import launch, resources, run
from pipeline.config import Config, ModelConfig
from pipeline.data.prepare import prepare_in_process
from pipeline.model.cpu.onednn import has_bf16_products
from pipeline.model.language_model import LanguageModel
from pipeline.training import checkpoint, times
from pipeline.training.monitor import read
from pipeline.training.times import PHASES, StepTimes
from pipeline.training.utilization import flops_per_token, peak_flops


def test_phases_are_the_times_between_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 12.0, 20.0, 20.25, 21.25])
    monkeypatch.setattr(times.time, "perf_counter", lambda: next(clock))
    step_times = StepTimes(torch.device("cpu"))
    step_times.mark("backward")  # not within a step, so not counted
    step_times.start()
    step_times.mark("data")
    step_times.mark("forward")
    step_times.start()  # the time in between (for a checkpoint, say) belongs to no phase
    step_times.mark("data")
    step_times.mark("forward")
    expected = {"data_ms": 375.0, "forward_ms": 1250.0}
    assert step_times.take() == {f"{phase}_ms": expected.get(f"{phase}_ms", 0.0) for phase in PHASES}


def test_tokens_of_an_earlier_sitting_do_not_count_for_the_speed(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"train.max_steps": 20, "train.log_every_steps": 10, "optimizer.schedule": "constant"})
    prepare_in_process(config)
    update, seconds = run.TrainingStep.update, [0.0]

    def update_of_a_second(self: run.TrainingStep, lr: float, index: int) -> torch.Tensor:
        seconds[0] += 1
        return update(self, lr, index)

    monkeypatch.setattr(run.TrainingStep, "update", update_of_a_second)
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    run.train(config, resources.local_worker(config), stop_requested=lambda: seconds[0] == 18)
    run.train(config, resources.local_worker(config))
    records = list(read(Path(str(config.run.directory)) / "metrics.jsonl"))
    assert [record["tokens_per_second"] for record in records if record["kind"] == "train"] == [60.0, 60.0]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "mingru", "qrnn", "gru_reset_before", "slstm"])
def test_the_recurrence_is_said_to_use_the_format_of_its_products(
    make_config: Callable[..., Config], cell: str
) -> None:
    settings = {"model.residual": True, "model.hidden_size": 64, "train.batch_size": 32, "train.precision": "bf16"}
    config = make_config({"model.cell": cell, "train.max_steps": 1, **settings})
    launch.train(config, launch.in_process)
    (start,) = [r for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "start"]
    assert start["recurrence_precision"] == ("bfloat16" if has_bf16_products() else "float32")


@pytest.mark.parametrize("is_tied", [False, True])
def test_flops_of_a_token(is_tied: bool) -> None:
    model = LanguageModel(ModelConfig(cell="lstm", hidden_size=8, num_layers=1, tie_weights=is_tied), 11)
    # 4 gates of 8 from 8 inputs and 8 hidden, 11 logits from 8; forward 2, backward 4
    assert flops_per_token(model) == 6 * (4 * 8 * (8 + 8) + 11 * 8)


@pytest.mark.parametrize("is_tied", [False, True])
def test_flops_of_a_mixture_count_its_output_matrix_for_each_softmax(is_tied: bool) -> None:
    sizes = {"hidden_size": 8, "num_layers": 1, "embedding_size": 6, "tie_weights": is_tied}
    model = LanguageModel(ModelConfig(cell="rnn", head="mixture", num_experts=3, **sizes), 11)  # type: ignore[arg-type]
    # the layer; three vectors of 6 and their weights in the mixture; 11 logits from each of the vectors
    assert flops_per_token(model) == 6 * (8 * (6 + 8) + (3 * 6 + 3) * 8 + 3 * 11 * 6)


def test_peak_flops_by_name_and_format() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16", tf32=False) == 989e12
    assert peak_flops("NVIDIA H100 PCIe", "bf16", tf32=False) == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float32", tf32=True) == 156e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float32", tf32=False) == 19.5e12
    assert peak_flops("NVIDIA L4", "fp16", tf32=False) == 121e12
    assert peak_flops("NVIDIA L40S", "fp16", tf32=False) == 362e12
    assert peak_flops("NVIDIA H100 80GB HBM3", "float64", tf32=False) is None
    assert peak_flops("Something else", "bf16", tf32=False) is None


def test_a_trace_is_written_and_changes_nothing(make_config: Callable[..., Config], tmp_path: Path) -> None:
    plain = make_config({"train.max_steps": 10, "train.log_every_steps": 1})
    traced = configuration.with_values(plain, {"run.directory": str(tmp_path / "traced"), "train.profile_steps": 2})
    for config in (plain, traced):
        launch.train(config, launch.in_process)
    records = list(read(tmp_path / "traced" / "metrics.jsonl"))
    (path,) = (tmp_path / "traced" / "profile").iterdir()
    (said,) = [record for record in records if record["kind"] == "profile"]
    assert str(path) in said["text"]
    assert path.name.endswith(".pt.trace.json.gz")
    names = [event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]]
    assert {name for name in names if str(name).startswith("ProfilerStep")} == {"ProfilerStep#5", "ProfilerStep#6"}
    ours, theirs = (
        [*checkpoint.load_model(checkpoint.find(str(config.run.directory), "last")).model.parameters()]
        for config in (plain, traced)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    lines = [record for record in records if record["kind"] == "train"]
    assert all(record["communication_ms"] == 0 and record["flops_utilization"] is None for record in lines)
    assert all(record["forward_ms"] > 0 and record["peak_memory_mb"] > 10 for record in lines)


def test_a_run_too_short_for_a_trace_says_so(make_config: Callable[..., Config], tmp_path: Path) -> None:
    config = make_config({"train.max_steps": 3, "train.profile_steps": 2, "run.sample_tokens": 0})
    launch.train(config, launch.in_process)
    (said,) = [record for record in read(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "profile"]
    assert said["text"].startswith("no trace was written")


def test_a_trace_that_cannot_be_written_is_reported_and_the_run_goes_on(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config({"train.max_steps": 8, "train.profile_steps": 2, "run.sample_tokens": 0})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "profile").touch()  # so that no folder can be made there
    assert launch.train(config, launch.in_process)["steps"] == 8
    (said,) = [record for record in read(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "profile"]
    assert re.search(
        r"could not be written to \S+worker-0-1\.pt\.trace\.json\.gz: (File exists|Not a dir)", said["text"]
    )
