"""The modeling file of an exported folder: number formats, and what fine-tuning asks of it."""

import copy
import math
from typing import Any

import pytest
import torch
from transformers import GenerationMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from pipeline.export import modeling_recurray
from pipeline.export.modeling_recurray import RecurrayConfig, RecurrayForCausalLM
from tests.export.exports import CELLS

VOCAB_SIZE = 30
IDS = torch.randint(0, VOCAB_SIZE, (2, 9), generator=torch.Generator().manual_seed(0))  # (B, T)


def new_model(**settings: Any) -> Any:
    """A small model in evaluation mode with random weights."""
    torch.manual_seed(0)
    settings = {"hidden_sizes": [12, 8], "embedding_size": 8, "vocab_size": VOCAB_SIZE, **settings}
    return RecurrayForCausalLM(RecurrayConfig(**settings)).eval()


KINDS = [{"cell": cell} for cell in CELLS] + [{"mogrifier_rounds": 2}, {"cell": "gru", "layer_norm": True}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("is_converted", [False, True])
def test_bf16_stays_near_float32(kind: dict[str, Any], is_converted: bool) -> None:
    model = new_model(**kind)
    with torch.no_grad():
        expected, after = model(IDS), model(IDS[:, :1], cache=model(IDS).cache)
    if is_converted:  # as by from_pretrained(…, dtype=torch.bfloat16), else as by Trainer(bf16=True)
        model = copy.deepcopy(model).bfloat16()
    mask = torch.tensor([[0] * 4 + [1] * 5, [1] * 9])
    with torch.autocast("cpu", torch.bfloat16, enabled=not is_converted):
        found = model(IDS, labels=IDS)
        found.loss.backward()
        then = model(IDS[:, :1], cache=found.cache)
        padded = model(IDS, attention_mask=mask)
        written = model.generate(IDS, attention_mask=mask, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert written.shape == (2, 12)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    torch.testing.assert_close(found.logits.float(), expected.logits, atol=0.1, rtol=0)
    torch.testing.assert_close(then.logits.float(), after.logits, atol=0.1, rtol=0)
    torch.testing.assert_close(padded.logits[1].float(), expected.logits[1], atol=0.1, rtol=0)
    for output in (found, then, padded):
        assert {part.dtype for layer in output.cache.layers for part in layer} == {torch.float32}


def test_a_slow_average_does_not_stop_in_bf16() -> None:
    """h_T = 1 − (1 − z)^T for constant gates; an average in bf16 would stop at 0.5, where z (1 − h) is rounded off."""
    model = new_model(cell="mingru", hidden_sizes=[8])
    layer = model.recurrence.layers[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias[:8], layer.bias[8:] = -6.0, 1.0
        state = model.bfloat16()(IDS[:1, :1].expand(1, 400)).cache.layers[0][0]
    z = 1 / (1 + math.exp(6.0))
    torch.testing.assert_close(state, torch.full((1, 8), 1 - (1 - z) ** 400), atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_loss_of_a_padded_batch_is_the_mean_over_the_predictions_of_its_rows(side: str) -> None:
    model = new_model(cell="gru")
    long, short = IDS[:1], IDS[1:, :5]
    expected = (model(long, labels=long).loss * 8 + model(short, labels=short).loss * 4) / 12
    batch, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    where = slice(4, 9) if side == "left" else slice(0, 5)
    batch[0], mask[0] = long[0], 1
    batch[1, where], mask[1, where] = short[0], 1
    found = model(batch, attention_mask=mask, labels=batch.masked_fill(mask == 0, -100)).loss
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("head", "is_tied"), [("softmax", False), ("softmax", True), ("mixture", True)])
def test_types_can_be_added(head: str, is_tied: bool) -> None:
    model = new_model(head=head, num_experts=2, tie_word_embeddings=is_tied)
    before = model(IDS).logits.log_softmax(-1)
    model.resize_token_embeddings(VOCAB_SIZE + 3)
    ids = torch.cat([IDS, torch.tensor([[VOCAB_SIZE], [VOCAB_SIZE + 2]])], dim=1)
    output = model(ids, labels=ids)
    assert output.logits.shape == (2, 10, VOCAB_SIZE + 3)
    torch.testing.assert_close(output.logits[:, :9, :VOCAB_SIZE].log_softmax(-1), before)


@pytest.mark.parametrize(("head", "is_tied"), [("adaptive", False), ("adaptive", True), ("mixture", False)])
def test_types_cannot_be_added_to_a_head_with_matrices_of_its_own(head: str, is_tied: bool) -> None:
    model = new_model(head=head, num_experts=2, adaptive_cutoffs=[9, 20], tie_word_embeddings=is_tied)
    assert model.resize_token_embeddings(VOCAB_SIZE).num_embeddings == VOCAB_SIZE
    with pytest.raises(ValueError, match=rf"the head of this model \({head}\) has a fixed number of types"):
        model.resize_token_embeddings(VOCAB_SIZE + 3)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # its name in older versions
@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_checkpointing_runs_layers_twice_for_the_same_gradients(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, gradients = [], []
    for is_on in (False, True):
        model = new_model(cell=cell).train()
        if is_on:
            model.gradient_checkpointing_enable()
        kind = type(model.recurrence.layers[0])
        monkeypatch.setattr(kind, "run", counted(kind.run, calls := []))
        model(IDS, labels=IDS, attention_mask=torch.tensor([[0] * 4 + [1] * 5, [1] * 9])).loss.backward()
        monkeypatch.undo()
        runs.append(len(calls))
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert runs == [2, 4]  # of two layers
    assert all(map(torch.equal, *gradients))


def counted(function: Any, calls: list[None]) -> Any:
    """``function``, which notes each call in ``calls``."""

    def result(*arguments: Any) -> Any:
        calls.append(None)
        return function(*arguments)

    return result


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_generate_keeps_the_state_whatever_its_version_calls_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def handed_on(self: Any, outputs: Any, model_kwargs: dict[str, Any], **_: Any) -> dict[str, Any]:
        """What transformers 5.20 does, which knows a state only as past_key_values, and 5.24, as cache."""
        return {**model_kwargs, name: outputs[name]} if name in list(outputs) else model_kwargs

    model = new_model()
    how = {"max_new_tokens": 6, "do_sample": False}
    expected = model.generate(IDS, use_cache=False, **how)
    monkeypatch.setattr(GenerationMixin, "_update_model_kwargs_for_generation", handed_on)
    monkeypatch.setattr(modeling_recurray, "CACHE", name, raising=False)
    assert torch.equal(model.generate(IDS, **how), expected)
    begun = model(IDS[:, :4])
    assert begun.past_key_values is begun.cache
    monkeypatch.undo()
    for given in ("cache", "past_key_values"):
        assert torch.equal(model.generate(IDS, **{given: begun.cache}, **how), expected)


def test_trainer_shifts_labels_that_it_smooths() -> None:
    assert new_model()._get_name() in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()  # for these it does


def test_a_model_without_an_end_of_text_says_so() -> None:
    config = RecurrayConfig(bos_token_id=3)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (3, None, None)
    again = RecurrayConfig.from_dict(config.to_dict())
    assert (again.bos_token_id, again.eos_token_id, again.pad_token_id) == (3, None, None)


def test_a_model_that_is_not_trained_yet_has_norms_of_one() -> None:
    model = new_model(cell="slstm", layer_norm=True)
    norms = {name: part for name, part in model.named_parameters() if ".norms." in name or name.endswith("head_norm")}
    assert len(norms) == 3 * 2 + 2
    assert all(torch.equal(part, torch.full_like(part, not name.endswith("bias"))) for name, part in norms.items())
    assert 0 < model.recurrence.layers[0].weight.abs().max() <= 8**-0.5
