"""Texts with common beginnings, each beginning read only once, against each text read by itself."""

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.evaluate import prefix_tree
from pipeline.evaluate.prefix_tree import PrefixTree, pays
from pipeline.evaluate.windows import window_of
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows

VOCAB_SIZE = 7
ALIKE = [
    [1, 2, 3, 0, 4],
    [1, 2, 3, 0, 5],
    [1, 2],
    [1, 2, 3],
    [0, 0],
    [0, 0, 0, 0],
    [6, 1, 2, 3],
    [1, 0, 3, 0, 4],
    [1, 1],
]


def model_of(cell: str) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(cell=cell, hidden_size=5, num_layers=2, init_range=1.0)  # type: ignore[arg-type]
    return LanguageModel(config, VOCAB_SIZE).double().eval()


def arrays(texts: list[list[int]]) -> list[np.ndarray]:
    return [np.array(text, dtype=np.int64) for text in texts]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "gru_reset_before"])
@pytest.mark.parametrize("num_groups", [None, 0, 2])
def test_each_text_has_the_same_figures_as_alone(cell: str, num_groups: int | None) -> None:
    generator = np.random.default_rng(0)
    texts = arrays(ALIKE + [generator.integers(0, 3, generator.integers(2, 9)).tolist() for _ in range(200)])
    model = model_of(cell)
    groups = None if num_groups is None else torch.eye(VOCAB_SIZE, num_groups, dtype=torch.float64)
    tree = PrefixTree(model)
    seen = []
    for batch in tree.batches(texts):
        found = tree.score([texts[number] for number in batch], groups)
        for column, number in enumerate(batch):
            (alone,) = scored_windows(model, [window_of([texts[number]])], groups=groups)
            length = len(texts[number]) - 1
            for mine, theirs in ((found.nats, alone.nats), (found.entropy, alone.entropy),
                                 (found.log_masses, alone.log_masses)):  # fmt: skip
                assert (mine is None) == (theirs is None)
                if mine is not None and theirs is not None and theirs.numel():
                    torch.testing.assert_close(mine[:length, column], theirs[:, 0], rtol=1e-9, atol=1e-9)
            assert found.nats[length:, column].eq(0).all()
            seen.append(number)
    assert sorted(seen) == list(range(len(texts)))


def test_a_common_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = arrays([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6, 4], [2, 2]])
    rows = []
    tree = PrefixTree(model_of("lstm"))
    stepper = tree.stepper
    monkeypatch.setattr(tree, "stepper", lambda tokens, state: rows.append(tokens.tolist()) or stepper(tokens, state))
    tree.score(texts)
    assert rows == [[1, 2], [2], [3, 6]]


def test_batches_keep_the_logits_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "MOST_LOGITS", 3 * VOCAB_SIZE)
    tree = PrefixTree(model_of("lstm"))
    assert [len(batch) for batch in tree.batches(arrays(ALIKE))] == [3, 3, 3]


def test_the_tree_pays_if_beginnings_are_shared_and_steps_are_quick() -> None:
    alike, different = arrays([[1, 2, 3, 4], [1, 2, 3, 5]]), arrays([[1, 2, 3, 4], [2, 2, 3, 4]])
    assert pays(model_of("lstm"), alike)
    assert not pays(model_of("lstm"), different)
    assert not pays(model_of("lstm"), [])
    mixture = LanguageModel(ModelConfig(hidden_size=5, head="mixture", num_experts=2), VOCAB_SIZE)
    assert not pays(mixture, alike)
