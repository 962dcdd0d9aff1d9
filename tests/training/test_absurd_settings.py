"""Any value of any setting is refused in a sentence, or a run with it trains or says why it stopped."""

import math
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch

from pipeline import launch, run
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import UserError
from pipeline.evaluate import Score
from pipeline.generate import generate, write_sample
from pipeline.training import memory
from pipeline.training.guard import DivergedError, TrainingStoppedError
from tests import absurd

TINY = {
    "model.num_layers": 1,
    "train.max_steps": 3,
    "train.evaluate_every_steps": 2,
    "train.log_every_steps": 1,
    "train.checkpoint_every_minutes": None,
    "run.sample_tokens": 5,
}
# other settings that a setting needs in order to matter
WITH = {
    "train.clip_history": {"train.clip_percentile": 50},
    "train.bptt": {"data.layout": "documents", "corpus.document": "line"},
    "train.batch_size": {"data.layout": "documents", "corpus.document": "line"},
    "data.bucket_windows": {"data.layout": "documents", "corpus.document": "line"},
    "tokenizer.vocab_size": {"tokenizer.kind": "bpe"},
    "tokenizer.sample_bytes": {"tokenizer.kind": "bpe"},
    "train.reset_every_windows": {"train.reset_state": "windows"},
    "train.max_loss_rise": {"train.on_bad_window": "undo"},
    "model.num_experts": {"model.head": "mixture"},
    "model.adaptive_cutoffs": {"model.head": "adaptive"},
    "model.adaptive_div_value": {"model.head": "adaptive"},
    "optimizer.momentum": {"optimizer.name": "sgd"},
    "optimizer.muon_momentum": {"optimizer.name": "muon"},
    "optimizer.eps": {"optimizer.name": "rmsprop"},
    "optimizer.average_decay": {"optimizer.average": "exponential"},
    "optimizer.average_after_epochs": {"optimizer.average": "tail"},
    "optimizer.average_patience": {"optimizer.average": "nonmonotonic"},
    "optimizer.peak_fraction": {"optimizer.schedule": "1cycle"},
    "optimizer.decay_at_epochs": {"optimizer.schedule": "step"},
    "optimizer.decay_factor": {"optimizer.schedule": "step"},
    "optimizer.plateau_patience": {"optimizer.schedule": "plateau"},
    "prune.begin_fraction": {"prune.sparsity": 0.5},
    "prune.end_fraction": {"prune.sparsity": 0.5},
    "prune.every_steps": {"prune.sparsity": 0.5},
}
# only Ray reads the first of these; the last say where things lie
ELSEWHERE = ("search.", "cluster.backend", "cluster.address", "run.directory", "data.directory")
# values that a user can well want, but that take long
LONG = [("run.sample_tokens", 10**6), ("model.num_layers", 1000)]
CASES = [
    (path, value)
    for path in absurd.settings()
    for value in absurd.VALUES
    if not path.startswith(ELSEWHERE) and (path, value) not in LONG
]


def try_out(make_config: Callable[..., Config], path: str, value: Any) -> None:
    """Train with the value; raise any error that is not a sentence for the user."""
    with suppress(UserError, TrainingStoppedError):
        launch.train(make_config({**TINY, **WITH.get(path, {}), path: value}), launch.in_process, fresh=True)


def test_some_absurd_values(make_config: Callable[..., Config]) -> None:
    source = random.Random(5)
    for path, value in source.sample(CASES, 60):
        try_out(make_config, path, value)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted({path for path, _ in CASES}))
def test_all_absurd_values(make_config: Callable[..., Config], path: str) -> None:
    for _, value in [case for case in CASES if case[0] == path]:
        try_out(make_config, path, value)


def test_a_model_larger_than_the_machine_is_refused_before_it_is_made(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^model\.hidden_size: [\d,]+ parameters take [\d,.]+ GB in training"):
        launch.train(make_config({"model.hidden_size": 100_000}), launch.in_process)
    config = make_config()
    # embedding 21 × 12; two layers of 4 · 12 · (12 + 12 + 2); head 21 × (12 + 1)
    number = 21 * 12 + 2 * 4 * 12 * 26 + 21 * 13
    assert memory.num_parameters(config, 21) == number
    needed = 4 * 4 * number  # float32: weights, gradients and two moments of adamw
    assert memory.parameter_bytes(config, number) == needed
    monkeypatch.setattr(memory, "machine_bytes", lambda: needed)
    memory.check_memory(config, 21)
    monkeypatch.setattr(memory, "machine_bytes", lambda: needed - 1)
    with pytest.raises(UserError, match="but this machine has"):
        memory.check_memory(config, 21)


def test_a_single_rank_without_memory_says_how_to_need_less(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training.step import WindowLoss

    def forward(*_: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(WindowLoss, "forward", forward)
    with pytest.raises(TrainingStoppedError, match=r"^out of memory after step 0; a smaller .* no checkpoint"):
        launch.train(make_config(), launch.in_process)


def test_a_run_whose_validation_is_not_finite_stops(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: Score(math.nan, 10, 1, num_bytes=10, why_not=""))
    with pytest.raises(DivergedError, match=r"^the validation loss is not finite at step 2 "):
        launch.train(make_config(TINY), launch.in_process)


def test_a_model_that_has_diverged_writes_no_sample(make_config: Callable[..., Config]) -> None:
    config = make_config()
    corpus = prepare_in_process(config)
    model = run.build_model(config, corpus.vocab_size)
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    how: dict[str, Any] = {"num_tokens": 9, "seed": 1, "layout": "streams"}
    assert write_sample(model, corpus.tokenizer, "the ", **how).startswith("(the model's outputs are not finite")
    with pytest.raises(UserError, match="diverged"):
        "".join(generate(model, corpus.tokenizer, "the ", num_tokens=9, seed=1))
