"""A student taught the true distribution of a text gets nearer to it than one that only reads the text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import config as configuration
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.data.shards import PreparedCorpus
from pipeline.training.teaching.stored import Origin, write_manifest, write_rows

MakeConfig = Callable[..., Config]
NUM_TYPES = 12


def true_distributions(corpus: PreparedCorpus, split: str, transition: Any) -> Any:
    """The distribution of every token of a split of a Markov chain of letters, given the letter before it: (N, V)."""
    letters = [corpus.tokenizer.encode(chr(97 + number))[0] for number in range(NUM_TYPES)]
    whole = np.full((corpus.vocab_size, corpus.vocab_size), 1e-12)
    whole[np.ix_(letters, letters)] = transition
    tokens = corpus.splits[split]
    before = np.concatenate([[letters[0]], tokens[0 : len(tokens) - 1]]).astype(np.int64)
    return whole[before] / whole[before].sum(1, keepdims=True)


def test_a_student_of_the_true_distribution_is_better_at_equal_tokens(make_config: MakeConfig, tmp_path: Path) -> None:
    source = np.random.default_rng(1)
    transition = source.dirichlet(np.full(NUM_TYPES, 0.7), size=NUM_TYPES)
    letters = [0]
    for draw in source.random(6_000):
        row = np.cumsum(transition[letters[-1]])
        letters.append(min(int(np.searchsorted(row, draw)), NUM_TYPES - 1))
    text = tmp_path / "chain.txt"
    text.write_text("".join(chr(97 + letter) for letter in letters))
    changes = {
        "corpus.train": [str(text)], "corpus.valid_fraction": 0.5, "model.num_layers": 1, "model.hidden_size": 24,
        "train.epochs": 4, "optimizer.lr": 0.02, "run.sample_tokens": 0, "optimizer.schedule": "constant",
    }  # fmt: skip
    alone = make_config(changes)
    corpus = prepare_in_process(alone)
    probabilities = true_distributions(corpus, "train", transition)
    order = np.argsort(-probabilities, axis=1)[:, :8]
    origin = Origin(
        "true", corpus.tokenizer.fingerprint, corpus.fingerprint, corpus.vocab_size, len(probabilities), "train",
        8, [1.0], "streams", [False, None], 1, 1, 0,
    )  # fmt: skip
    folder = tmp_path / "true"
    folder.mkdir()
    log_p = np.log(np.take_along_axis(probabilities, order, 1))
    entry = write_rows(folder, "train-00000", origin, 0, (np.zeros((len(order), 1)), order, log_p))
    write_manifest(folder, origin, [entry], teacher="the chain itself")
    pupil = configuration.with_values(
        alone,
        {"train.teacher": str(folder), "train.teacher_weight": 0.9, "run.directory": str(tmp_path / "pupil")},
    )
    results = [launch.train(config, launch.in_process) for config in (alone, pupil)]
    assert results[0]["tokens"] == results[1]["tokens"]
    valid = true_distributions(corpus, "valid", transition)[1:]
    best = -np.log(valid[np.arange(len(valid)), corpus.splits["valid"][1 : len(valid) + 1]]).mean()
    ours, theirs = (np.log(result["perplexity"]) for result in results)
    assert best < theirs < ours - 0.01  # nats per token; no model can be better than the chain itself
