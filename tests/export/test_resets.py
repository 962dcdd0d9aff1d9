"""Exported models whose training began each document with a zero state: every document is read as if alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.compress.folder import write_onnx_folder
from pipeline.compress.onnx_export import export
from pipeline.compress.onnx_model import OnnxModel
from pipeline.export.card import notes
from pipeline.export.hugging_face import export_hugging_face
from pipeline.export.modeling_recurray import RecurrayConfig, RecurrayForCausalLM
from pipeline.export.samples import checked_tokens
from pipeline.offline import offline
from pipeline.training.checkpoint import Loaded
from tests.compress.test_onnx import CELLS, make_model
from tests.export.exports import make_loaded, tokenizer_of

END = 4
DOCUMENTS = [[7, 3, END], [9, 9, 1, 2, END], [END], [5, 6, 0]]
TEXT = [token for document in DOCUMENTS for token in document]
KINDS = [{"cell": "lstm"}, {"cell": "qrnn", "num_wide": 2}, {"cell": "slstm"}, {"mogrifier_rounds": 2}]


def new_model(kind: dict[str, Any], reset_after: int | None) -> Any:
    torch.manual_seed(0)
    settings = {"hidden_sizes": [12, 8], "embedding_size": 8, "vocab_size": 30, **kind}
    return RecurrayForCausalLM(RecurrayConfig(**settings, reset_after_token_id=reset_after)).eval()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@torch.no_grad()
def test_transformers_reads_each_document_from_a_blank_state(kind: dict[str, Any]) -> None:
    whole, keeping = new_model(kind, END), new_model(kind, None)  # of equal weights
    alone = torch.cat([keeping(torch.tensor([ids])).logits[0] for ids in DOCUMENTS])  # (T, V)
    assert not torch.allclose(keeping(torch.tensor([TEXT])).logits[0], alone, atol=1e-3)
    rows = torch.zeros(3, len(TEXT) + 2, dtype=torch.int64)  # the padding is of a type that the text has too
    mask = torch.zeros_like(rows)
    short = TEXT[4:9]  # it ends with the end of a document
    rows[0, 2:] = rows[1, :-2] = torch.tensor(TEXT)
    rows[2, 3:8] = torch.tensor(short)
    mask[0, 2:] = mask[1, :-2] = mask[2, 3:8] = 1
    for padding in (0, END):
        found = whole(rows.masked_fill(mask == 0, padding), attention_mask=mask, output_hidden_states=True)
        torch.testing.assert_close(found.logits[0, 2:], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.logits[1, :-2], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.logits[2, 3:8], whole(torch.tensor([short])).logits[0], atol=1e-5, rtol=0)
        assert found.hidden_states[-1].shape == (3, len(TEXT) + 2, 8)
        state = keeping(torch.tensor([DOCUMENTS[-1]])).cache.layers
        for layer, expected in zip(found.cache.layers, state, strict=True):
            for part, one in zip(layer, expected, strict=True):
                torch.testing.assert_close(part[:2], one.expand(2, -1), atol=1e-5, rtol=0)
                assert not part[2].any()  # after the end of a document nothing is left
    cache, steps = None, []
    for token in TEXT:  # one at a time, as generate does
        output = whole(torch.tensor([[token]]), cache=cache)
        cache = output.cache
        steps.append(output.logits[0])
    torch.testing.assert_close(torch.cat(steps), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_document_but_not_the_one_before(checkpointing: bool) -> None:
    model, keeping = new_model({"cell": "gru"}, END), new_model({"cell": "gru"}, None)
    if checkpointing:
        model.train().gradient_checkpointing_enable()
    model(torch.tensor([TEXT])).logits.square().sum().backward()
    sum(keeping(torch.tensor([ids])).logits.square().sum() for ids in DOCUMENTS).backward()  # type: ignore[union-attr]
    for found, expected in zip(model.parameters(), keeping.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-4)


def resetting() -> Loaded:
    loaded = make_loaded(tokenizer_of("bpe"), cell="gru", num_layers=2)
    loaded.model.reset_after = loaded.tokenizer.eos_id
    return loaded


def test_the_exported_folder_says_where_states_are_reset(tmp_path: Path) -> None:
    loaded = resetting()
    export_hugging_face(loaded, tmp_path / "model", num_texts=50, license_name="mit")
    with offline() as transformers:
        config = transformers.AutoConfig.from_pretrained(tmp_path / "model", trust_remote_code=True)
    assert config.reset_after_token_id == loaded.tokenizer.eos_id is not None


IDS = np.random.default_rng(0).integers(0, 30, 150)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("int8", [False, True])
def test_onnx_reads_each_document_from_a_zero_state(cell: str, int8: bool) -> None:
    model = make_model(**CELLS[cell], num_layers=2)
    keeping = OnnxModel(export(model, IDS, int8=int8))
    alone = []
    for ids in DOCUMENTS:
        keeping.reset(1)
        alone.append(keeping(np.array(ids)[:, None])[:, 0])
    model.reset_after = END
    exported = OnnxModel(export(model, IDS, int8=int8))  # export compares it with torch on 150 tokens
    columns = np.stack([TEXT, [9] * len(TEXT)], axis=1)  # a neighbour without an end keeps its state
    exported.reset(2)
    found = exported(columns)
    np.testing.assert_allclose(found[:, 0], np.concatenate(alone), atol=1e-5)
    keeping.reset(1)
    np.testing.assert_allclose(found[:, 1:], keeping(columns[:, 1:]), atol=1e-5)
    exported.reset(1)
    steps = [exported([[token]])[0, 0] for token in TEXT]
    np.testing.assert_allclose(np.stack(steps), np.concatenate(alone), atol=1e-5)
    assert exported.facts["reset_after"] == str(END)
    assert "reset_after" not in keeping.facts


def test_a_model_that_resets_its_state_is_exported_to_onnx_with_a_word_about_it(tmp_path: Path) -> None:
    loaded = resetting()
    content = export(loaded.model, checked_tokens(loaded))
    write_onnx_folder(tmp_path / "model", content, loaded, weights="float32", argument="to")
    end = f"type {loaded.tokenizer.eos_id}, the end of a document"
    assert end in " ".join((tmp_path / "model/README.md").read_text().split())


def test_the_card_says_which_resets_of_training_the_folder_lacks() -> None:
    loaded = make_loaded(tokenizer_of("byte"))
    assert not any("zero" in note for note in notes(loaded))
    loaded.model.reset_every = 2100
    assert "In training its state was made zero every 2,100 tokens; here it is kept." in notes(loaded)
