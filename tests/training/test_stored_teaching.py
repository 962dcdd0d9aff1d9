"""Soft targets from stored rows, where a student reads the text in another way than its teacher did."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import config as configuration
from pipeline.config import ModelConfig
from pipeline.data.windows import IGNORED, ArrayTokens, Window
from pipeline.model.head import Softmax
from pipeline.model.head.distillation import TopTargets
from pipeline.model.language_model import LanguageModel
from pipeline.training.teaching.models import RecurrentTeacher
from pipeline.training.teaching.part import StoredTeaching
from pipeline.training.teaching.store import rows_of
from pipeline.training.teaching.stored import Origin, StoredLogits, write_manifest, write_rows


@pytest.mark.parametrize(("top_k", "temperature"), [(1, 1.0), (3, 2.0), (6, 1.0)])
def test_a_document_that_begins_a_split_read_in_streams_is_taught_its_first_token(
    tmp_path: Path, top_k: int, temperature: float
) -> None:
    """The stored row of the split's first token is empty: nothing comes before it in a stream."""
    vocab_size = 6
    origin = Origin(
        teacher="", tokenizer="", corpus="", vocab_size=vocab_size, num_tokens=4, split="train", top_k=top_k,
        temperatures=[temperature], layout="streams", reset=[False, None], streams=1, window_tokens=4, burn_in=0,
    )  # fmt: skip
    ids = np.array([2, 3, 1, 5])
    config = ModelConfig(cell="rnn", hidden_size=4, num_layers=1)
    teacher = RecurrentTeacher(LanguageModel(config, vocab_size), precision="float32")
    rows = rows_of(teacher, ArrayTokens(ids), origin, 0, 4, begin_id=None)
    write_manifest(tmp_path, origin, [write_rows(tmp_path, "train-00000", origin, 0, rows)], teacher="")
    train = configuration.with_values(configuration.load(), {"train.teacher_temperature": temperature}).train
    teaching = StoredTeaching(
        StoredLogits(tmp_path), train, vocab_size=vocab_size, fingerprint="", device=torch.device("cpu"), rank=0,
        world_size=1,
    )  # fmt: skip
    places = np.array([[2, 0], [3, 1]])  # of two documents of two tokens each
    window = Window(ids[places - 1], ids[places], position=0, next_position=1, begins=True, places=places)
    soft = teaching(window, torch.from_numpy(window.inputs))
    assert isinstance(soft, TopTargets)
    types, q = soft.types[0, 1].tolist(), soft.log_q[0, 1].exp().tolist()
    assert (types[0], q) == (2, [1.0] + [0.0] * (top_k - 1))
    assert len(set(types)) == top_k
    others = soft.types.long().flatten(0, 1)[[0, 2, 3]]
    assert others.tolist() == rows[1][[2, 3, 1]].tolist()
    head = Softmax(4, vocab_size).double()
    head.reset_parameters()  # a head by itself begins with whatever was in memory
    hidden = torch.randn(2, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[IGNORED, 2], [IGNORED, IGNORED]])  # of the first token alone
    found = head.distill(hidden, targets, soft)
    nats = -(head.logits(hidden[0, 1]) / temperature).log_softmax(-1)[2]
    assert found.divergence.item() == pytest.approx(nats.item())
