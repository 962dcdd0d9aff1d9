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
from pipeline.data.generated import Answer, Example, task_of
from pipeline.data.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from pipeline.errors import UserError
from pipeline.evaluate.probes import probe
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


@pytest.mark.parametrize(
    "tokenizer", [CharTokenizer("document", ["<unk>", "<eos>", "a", "b"]), ByteTokenizer("document")]
)
@pytest.mark.parametrize("rule", ["never", "document", "windows"])
def test_answers_are_those_after_what_a_line_begins_with(tokenizer: Tokenizer, rule: str) -> None:
    torch.manual_seed(2)
    model = LanguageModel(ModelConfig(hidden_size=6, num_layers=1, init_range=2.0), tokenizer.vocab_size).eval()
    model.reset_after = tokenizer.eos_id if rule == "document" else None
    model.reset_every = 3 if rule == "windows" else None
    text, places = "aaabbbaa", range(9)
    ids = [int(tokenizer.eos_id or 0), *tokenizer.encode(text).tolist()]
    begins = {"never": [0], "document": [0, 1], "windows": [0, 1, 4, 7]}[rule]
    likeliest = []
    for place in places:
        begin = max(one for one in begins if one <= place)
        with torch.no_grad():
            hidden, _ = model(torch.tensor(ids[begin : place + 1])[:, None], model.initial_state(1))
            likeliest.append(int(model.head.logits(hidden[-1]).argmax()))
    examples = [Example(text, tuple(Answer(place, place) for place in places))]
    found = probe(model, tokenizer, task_of("builtin:counting?most=3"), examples, document="line")
    expected = np.array(likeliest) == np.append(tokenizer.encode(text), tokenizer.eos_id)
    assert found.is_right.tolist() == expected.tolist()
    if tokenizer.kind == "char":  # records of JSON Lines are documents in any case: no line end is known
        assert probe(model, tokenizer, task_of("builtin:counting"), examples).is_right.tolist() == expected.tolist()


def test_a_model_without_probabilities_gives_no_answer() -> None:
    tokenizer = ByteTokenizer("document")
    model = LanguageModel(ModelConfig(hidden_size=6, num_layers=1), tokenizer.vocab_size)
    with torch.no_grad():
        model.head.bias[2] = torch.nan  # type: ignore[index, operator]
    with pytest.raises(UserError, match="outputs are not finite"):
        probe(model, tokenizer, task_of("builtin:counting"), [Example("aabb", (Answer(3, 2),))])


def test_a_value_that_was_asked_for_before_is_as_far_back_as_its_last_answer() -> None:
    num_repeated = 0
    for text, answers in task_of("builtin:associative-recall?pairs=3&queries=4").fresh(200, seed=1):
        for place, distance in answers:
            pair = text[place - 1 : place + 1]
            assert text[: place - distance + 1].endswith(pair)
            assert pair not in text[place - distance + 1 : place]
            num_repeated += "?" in text[: place - distance + 1]
    assert num_repeated > 100
