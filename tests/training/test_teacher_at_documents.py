"""A teacher whose state was reset at documents reads texts as it was trained to, whatever its student does."""

from itertools import chain
from typing import Any

import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.training.teaching import models
from pipeline.training.teaching.models import RecurrentTeacher

READ = {  # how ids 0 3 4 0 2 0 1 were read in training, each part from a zero state
    "reset_state: document": [[0], [3, 4, 0], [2, 0], [1]],
    "layout: documents": [[0, 3, 4], [0, 2], [0, 1]],
}


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("trained", READ)
def test_documents_are_read_as_in_training_wherever_windows_end(trained: str, length: int) -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=5, num_layers=2), 6).double().eval()
    if trained == "reset_state: document":
        model.reset_after = 0
    teacher = RecurrentTeacher(model, precision="float64", begin_id=None if model.reset_after == 0 else 0)
    documents = READ[trained]
    with torch.no_grad():
        expected = torch.cat([model(torch.tensor(ids)[:, None], model.initial_state(1))[0] for ids in documents])
    state, found = teacher.initial_state(1), []
    for window in torch.tensor([*chain(*documents)])[:, None].split(length):
        hidden, state = teacher.read(window, state, None)
        found.append(hidden)
    torch.testing.assert_close(torch.cat(found), expected)


def test_padding_makes_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of a student side by side, each after an <eos>, here 0, and padded with it."""
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=5, num_layers=1), 6).double().eval()
    model.reset_after = 0
    inputs = torch.tensor([[0, 0, 0], [3, 2, 0], [4, 0, 0], [1, 0, 0]])
    rows: list[Any] = []
    monkeypatch.setattr(
        models, "Segments", lambda resets, device: rows.append(resets) or Segments(resets, device=device)
    )
    hidden, _ = RecurrentTeacher(model, precision="float64").read(inputs, model.initial_state(3), None)
    assert rows[0].nonzero()[0].tolist() == [1, 1]
    with torch.no_grad():
        expected, _ = model(torch.tensor([[3], [4], [1]]), model.initial_state(1))
    torch.testing.assert_close(hidden[1:, :1], expected)
