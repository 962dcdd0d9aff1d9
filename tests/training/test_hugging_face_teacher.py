"""A Hugging Face causal model as a teacher: its prediction at each place, its end of text, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from jobs import teach
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.errors import UserError
from pipeline.training.monitor import read
from pipeline.training.teaching.find import find, open_model
from pipeline.training.teaching.hugging_face import NEVER, HuggingFaceTeacher

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_text: Path) -> Path:
    """A tiny GPT-2 that has learnt nothing, and its tokenizer of 60 types, the first of them its end of text."""
    path = tmp_path_factory.mktemp("gpt2")
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<|end|>"], show_progress=False)
    engine.train([str(tiny_text)], trainer)
    engine.save(str(path / "tokenizer.json"))
    torch.manual_seed(0)
    shape = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(vocab_size=64, **shape)
    model = transformers.GPT2LMHeadModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    return path


@pytest.fixture
def make_student(make_config: Callable[..., Config], folder: Path) -> Callable[..., Config]:
    def make(changes: dict[str, Any] | None = None) -> Config:
        values = {"tokenizer.kind": "bpe", "tokenizer.path": str(folder / "tokenizer.json"), "corpus.document": "line"}
        return make_config({**values, "model.hidden_size": 8, "model.num_layers": 1, **(changes or {})})

    return make


def test_each_place_is_read_after_the_tokens_before_it(make_student: Callable[..., Config], folder: Path) -> None:
    corpus = prepare_in_process(make_student())
    num_types = corpus.vocab_size - 1
    found = find(folder, corpus)
    teacher = open_model(found, corpus.tokenizer, device=torch.device("cpu"), precision="float32")
    assert isinstance(teacher, HuggingFaceTeacher)
    assert teacher.context == teacher.most_read == 16
    ids = torch.from_numpy(corpus.splits["train"][:120].astype(np.int64)).view(3, 40).t()  # (T, B)
    assert (ids == num_types).any()  # our <eos>
    resets = np.zeros((40, 3), dtype=bool)
    resets[[0, 17, 23], [1, 2, 2]] = True
    state, rows = teacher.initial_state(3), []
    for begin, end in ((0, 7), (7, 30), (30, 40)):
        hidden, state = teacher.read(ids[begin:end], state, resets[begin:end] if begin < 30 else None)
        rows.append(torch.cat(list(teacher.chunks(hidden))).view(end - begin, 3, -1))
    logits = torch.cat(rows)
    theirs = torch.where(ids == num_types, 0, ids)
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    # pieces of at most 16 tokens of each window: each sees up to 16 tokens before it, but none before a reset
    pieces = {0: [(0, 7), (7, 23), (23, 30), (30, 40)], 1: [(0, 7), (7, 23), (23, 30), (30, 40)]}
    pieces[2] = [(0, 7), (7, 17), (17, 23), (23, 30), (30, 40)]
    for column, parts in pieces.items():
        for begin, end in parts:
            last_reset = max([0, *(int(r) for r in resets[:, column].nonzero()[0] if r <= begin)])
            first = max(last_reset, begin - 16)
            with torch.no_grad():
                out = model(theirs[first:end, column][None]).logits[0, begin - first :]
            expected = torch.cat([out[:, :num_types], out[:, :1]], 1)
            expected[:, 0] = NEVER
            torch.testing.assert_close(logits[begin:end, column], expected, rtol=1e-4, atol=1e-4)


def test_it_teaches_during_training_and_through_stored_logits(
    make_student: Callable[..., Config], folder: Path, tmp_path: Path
) -> None:
    config = make_student({"train.teacher": str(folder), "train.max_steps": 10, "run.sample_tokens": 0})
    launch.train(config, launch.in_process)
    records = [r for r in read(Path(str(config.run.directory)) / "metrics.jsonl") if r["kind"] == "train"]
    assert all(0 < record["divergence"] < 20 for record in records)
    arguments = ["--teacher", str(folder), "--data", str(config.data.directory), "--to", str(tmp_path / "stored")]
    result = teach.main([*arguments, "--top-k", "8", "--streams", "64", "--burn-in", "16"])
    assert result is not None
    again = make_student(
        {
            "train.teacher": str(tmp_path / "stored"),
            "train.max_steps": 5,
            "run.sample_tokens": 0,
            "run.directory": str(tmp_path / "again"),
        }
    )
    launch.train(again, launch.in_process)


def test_another_tokenizer_or_a_folder_without_weights_is_refused(
    make_student: Callable[..., Config], make_config: Callable[..., Config], folder: Path, tmp_path: Path
) -> None:
    corpus = prepare_in_process(make_config({"data.directory": str(tmp_path / "other")}))
    with pytest.raises(UserError, match=r"^train.teacher: the corpus has another tokenizer than .*tokenizer.path="):
        find(folder, corpus)
    corpus = prepare_in_process(make_student())
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UserError, match=r"^train.teacher: .* has no tokenizer.json"):
        find(empty, corpus)
    (empty / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    with pytest.raises(UserError, match=r"^train.teacher: .* has no weights in safetensors"):
        find(empty, corpus)


@pytest.mark.parametrize(
    ("eos", "sentence"),
    [
        (None, "the model has no end of text to stand for the corpus's <eos>; set tokenizer.eos=none"),
        (64, "eos_token_id in config.json is 64, but the model has 64 types"),
    ],
)
def test_a_model_without_an_end_of_text_is_refused(
    make_student: Callable[..., Config], folder: Path, tmp_path: Path, eos: int | None, sentence: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "other"))
    for file in copy.glob("*config.json"):
        values = json.loads(file.read_text())
        file.write_text(json.dumps({**values, "eos_token_id": eos}))
    with pytest.raises(UserError, match=f"{re.escape(sentence)}$"):
        launch.train(make_student({"train.teacher": str(copy), "train.max_steps": 1}), launch.in_process)
