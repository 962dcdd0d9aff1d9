"""The recipe of benchmarks/gpu.py on a CPU, with a corpus of a few lines: reading, training and logging."""

import csv
import math
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # scripts there import each other like that

from gpu_recipe import EOS, UNK, Training, read_corpus, recipe

from pipeline.config import Config, load, with_values
from pipeline.evaluate import HeldOut, evaluate

CPU = torch.device("cpu")


def write_corpus(folder: Path) -> None:
    (folder / "ptb.train.txt").write_text("".join(f" the cat sat on mat {n % 7}\n the <unk> sat\n" for n in range(40)))
    (folder / "ptb.valid.txt").write_text(" the cat sat on 3\n a dog sat\n")


def tiny_recipe() -> Config:
    path = Path(__file__).parents[2] / "configs" / "ptb-awd-lstm.yaml"
    sizes = ["model.embedding_size=6", "model.hidden_size=8", "model.last_hidden_size=6", "train.bptt=10"]
    return load(path, [*sizes, "train.batch_size=4", "train.log_every_steps=2", "evaluate.streams=1", "optimizer.lr=3"])


def test_the_corpus_is_read_as_the_recipes_tokenize_it(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    train, valid, vocab_size = read_corpus(tmp_path)
    assert vocab_size == len({EOS, UNK, "the", "cat", "sat", "on", "mat"}) + 7
    assert train.array[:12].tolist() == [2, 3, 4, 5, 6, 7, 0, 2, 1, 4, 0, 2]
    assert valid.array.tolist() == [2, 3, 4, 5, 10, 0, 1, 1, 4, 0]  # "a dog" is unknown; 10 is "3"
    with pytest.raises(FileNotFoundError, match=r"has none of train\.txt, ptb\.train\.txt"):
        read_corpus(tmp_path / "no")


def test_the_recipe_trains_by_epochs_and_validates_every_token(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    training = Training(tiny_recipe(), *read_corpus(tmp_path), CPU)
    lines = []
    for line in training.run(time.time() + 600):
        lines.append(line)
        if line["epoch"] == 2:
            break
    ends = [line for line in lines if line["valid_perplexity"] is not None]
    per_epoch = (40 * 11 - 1) // 4 * 4
    assert [line["tokens"] for line in ends] == [per_epoch, 2 * per_epoch]
    model, ids = training.model.eval(), torch.from_numpy(training.valid.array).unsqueeze(1)  # (N, 1)
    with torch.no_grad():
        hidden, _ = model(ids[:-1], model.initial_state(1))
        loss = F.cross_entropy(model.head.logits(hidden)[:, 0], ids[1:, 0])
    assert ends[-1]["valid_perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    losses = [line["train_loss"] for line in lines if line["train_loss"] is not None]
    assert losses[-1] < losses[0]


def test_validation_is_that_of_a_run(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "ptb.valid.txt").write_text(" the cat sat on 3\n a dog sat on the mat\n" * 10)
    config = with_values(tiny_recipe(), {"evaluate.streams": 3, "evaluate.burn_in": 4})
    training = Training(config, *read_corpus(tmp_path), CPU)
    text, bptt = HeldOut(training.valid, None), config.train.bptt
    scores = [evaluate(training.model, text, streams=3, bptt=bptt, burn_in=burn_in) for burn_in in (4, 0)]
    assert scores[0].num_parts == 3
    assert training.validate() == pytest.approx(scores[0].perplexity, rel=1e-6)
    assert training.best != pytest.approx(scores[1].perplexity, rel=1e-6)


def test_the_recipe_stops_when_its_time_is_up_and_logs(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (row,) = recipe(tiny_recipe(), tmp_path, tmp_path / "recipe.csv", CPU, until=time.time())
    with (tmp_path / "recipe.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert row["steps"] == 1
    assert len(lines) == 1
    assert float(lines[0]["valid_perplexity"]) == pytest.approx(row["best_perplexity"])
    assert int(lines[0]["tokens"]) == row["tokens"]
