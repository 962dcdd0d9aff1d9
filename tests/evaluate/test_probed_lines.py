"""What stands between the lines that a model is probed on, and how far back an answer that was given before is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import probe as job
from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config, ModelConfig
from pipeline.data.generated import task_of
from pipeline.data.tokenizer.char import CharTokenizer
from pipeline.errors import UserError
from pipeline.evaluate.probes import probe
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel

LINES = {
    "corpus.train": ["builtin:counting?most=2&examples=2000"], "corpus.document": "line", "model.hidden_size": 16,
    "model.num_layers": 1, "train.bptt": 24, "train.epochs": 1, "optimizer.lr": 0.02, "run.sample_tokens": 0,
}  # fmt: skip


def test_a_model_of_lines_in_a_stream_is_probed_with_eos_between_them(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Its tokenizer has no line end: each line is a document, which ends with <eos>."""
    config = make_config(LINES)
    launch.train(config, launch.in_process)
    found = job.main(["--run", str(config.run.directory), "--examples", "200"])
    assert found is not None
    (figures,) = found["runs"].values()
    assert figures["answers"] == 400
    assert figures["accuracy"] > 0.9
    elsewhere = {"run.directory": str(tmp_path / "joined"), "data.directory": str(tmp_path / "data-joined")}
    joined = configuration.with_values(config, {"tokenizer.eos": "none", "train.max_steps": 2, **elsewhere})
    launch.train(joined, launch.in_process)
    with pytest.raises(UserError, match=r"^probe: the model was trained on lines with nothing between them"):
        job.main(["--run", str(joined.run.directory)])


def test_a_model_whose_state_was_reset_at_lines_reads_none_of_what_comes_before() -> None:
    task = task_of("builtin:copy?symbols=3&length=2&delay=4")
    examples = task.fresh(100, seed=2)
    tokenizer = CharTokenizer.from_content("document", {"types": ["<unk>", "<eos>", *"abc.:"]})
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(cell="gru", hidden_size=8, num_layers=1), tokenizer.vocab_size)
    for parameter in model.parameters():
        parameter.data.normal_(std=1)  # what was read first still shows at the answers

    def by_itself() -> list[bool]:
        right = []
        with evaluating(model):
            for text, answers in sorted(examples, key=lambda example: len(example.text)):
                ids = torch.from_numpy(tokenizer.encode(text).astype(np.int64))
                hidden, _ = model(ids[:, None], model.initial_state(1))
                best = model.head.logits(hidden[:, 0]).argmax(-1)
                right += [int(best[place - 1]) == int(ids[place]) for place, _ in answers]
        return right

    after_eos = probe(model, tokenizer, task, examples, document="line").is_right.tolist()
    model.reset_after = tokenizer.eos_id
    assert probe(model, tokenizer, task, examples, document="line").is_right.tolist() == by_itself() != after_eos


def test_a_value_that_was_asked_for_before_is_as_far_back_as_its_last_answer() -> None:
    num_repeated = 0
    for text, answers in task_of("builtin:associative-recall?pairs=3&queries=4").fresh(200, seed=1):
        for place, distance in answers:
            pair = text[place - 1 : place + 1]
            assert text[: place - distance + 1].endswith(pair)
            assert pair not in text[place - distance + 1 : place]
            num_repeated += "?" in text[: place - distance + 1]
    assert num_repeated > 100
