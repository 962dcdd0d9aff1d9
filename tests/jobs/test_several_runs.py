"""Commands that take several models or prompts look at all of them before they work on one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import context, gradients
from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.context_use import plan
from pipeline.data.generated import task_of
from pipeline.data.tokenizer import train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.evaluate import probes
from pipeline.generate import likeliest_texts
from pipeline.gradient_flow import windows_of
from pipeline.model.language_model import LanguageModel

TEXT = ArrayTokens(np.arange(60, dtype=np.int64) % 7)


def test_all_runs_are_looked_at_before_one_is_measured(
    make_config: Callable[..., Config], run_on_documents: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = {"run.directory": str(tmp_path / "streams"), "data.directory": str(tmp_path / "of-streams")}
    launch.train(make_config({"train.max_steps": 2, **streams}), launch.in_process)
    capsys.readouterr()
    for job in (context, gradients):
        with pytest.raises(UserError, match=r"reads data\.layout=documents"):
            job.main(["--run", streams["run.directory"], run_on_documents])
        assert capsys.readouterr().out == ""


def test_a_text_that_nothing_can_replace_is_refused_before_it_is_read() -> None:
    how = {"contexts": [1, 9], "num_targets": 5, "seed": 1}
    assert plan(TEXT, **how, changes=["replaced"], length=10).length == 10
    with pytest.raises(UserError, match=r"^change: a text of 60 tokens is too short: no other 40 can replace those"):
        plan(TEXT, **how, changes=["dropped", "replaced"], length=40)
    with pytest.raises(UserError, match=r"^contexts: 60 tokens before a target need a longer text than the 60 tokens"):
        plan(TEXT, contexts=[60])


def test_windows_for_gradients_are_counted_before_they_are_read() -> None:
    model = LanguageModel(configuration.load().model.model_copy(update={"hidden_size": 8, "num_layers": 1}), 7)
    assert len(windows_of(model, TEXT, length=5, num_streams=2, num_windows=3)) == 4  # one warms up
    with pytest.raises(UserError, match=r"^length: two windows of 50 steps on 1 streams need more text than the 60"):
        windows_of(model, TEXT, length=50, num_streams=1)


def test_a_tokenizer_that_does_not_know_a_task_is_refused_before_it_is_asked() -> None:
    task = task_of("builtin:copy?delay=10")
    examples = task.fresh(3, seed=0)
    texts = ["\n", *(example.text for example in examples)]
    settings = configuration.load().tokenizer.model_copy(update={"kind": "char"})
    probes.check(train_tokenizer(settings, texts, num_documents=1), task, examples)
    with pytest.raises(UserError, match=r"^probe: the model was not trained on this task: it does not know"):
        probes.check(train_tokenizer(settings, ["\nxyz"], num_documents=1), task, examples)


def test_all_prompts_are_read_before_one_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configuration.load().tokenizer.model_copy(update={"kind": "char"})
    tokenizer = train_tokenizer(settings, ["abc\n"], num_documents=1)
    torch.manual_seed(0)
    model = LanguageModel(configuration.load().model, tokenizer.vocab_size)
    monkeypatch.setattr("pipeline.generate.beam.beam_search", lambda *given, **how: pytest.fail("it searches already"))
    with pytest.raises(UserError, match=r"^prompt 2: "):
        next(likeliest_texts(model, tokenizer, ["ab", "xy"], num_tokens=2, num_beams=2))
