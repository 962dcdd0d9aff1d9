"""A teacher whose state was reset at documents reads texts as it was trained to, whatever its student does."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig, TrainConfig
from pipeline.data.streams import Streams
from pipeline.data.windows import ArrayTokens
from pipeline.model.language_model import LanguageModel
from pipeline.model.segments import Segments
from pipeline.training.teaching import models
from pipeline.training.teaching.models import RecurrentTeacher
from pipeline.training.teaching.part import LiveTeaching

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


@pytest.mark.parametrize("length", [1, 2, 7])
def test_a_teacher_of_documents_reads_the_eos_before_each_also_beside_a_student_that_is_reset_after_it(
    length: int,
) -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=5, num_layers=2), 6).double().eval()
    documents = READ["layout: documents"]
    with torch.no_grad():
        expected = torch.cat([model(torch.tensor(ids)[:, None], model.initial_state(1))[0] for ids in documents])
    ids = np.array([*chain(*documents), 0])
    train = TrainConfig(batch_size=1, bptt=length, reset_state="document", teacher="a run")
    data = Streams.of(ArrayTokens(ids, np.flatnonzero(ids[:-1] == 0) + 1), train)
    found: list[torch.Tensor] = []
    teaching = LiveTeaching(
        RecurrentTeacher(model, precision="float64", begin_id=0), train, data=data,
        vocab_size=6, fingerprint="", device=model.device, rank=0, world_size=1,
    )  # fmt: skip
    for window in data.windows():
        assert length < 7 or window.resets is not None
        targets: Any = teaching(window, torch.from_numpy(window.inputs.copy()))
        found.append(targets.hidden)
    torch.testing.assert_close(torch.cat(found), expected)
