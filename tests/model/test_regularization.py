"""AWD-LSTM's dropouts and penalties against the equations, and what they must leave alone."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.model.regularization import EMBEDDING, HIDDEN, INPUT, OUTPUT, WEIGHT, Masks, Penalties
from pipeline.model.segments import Segments
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep
from tests.model.reference import SETTINGS, cell_step, recurrent_weight, zero_state

VOCAB, TIME, STREAMS, EMBED, HIDDEN_SIZE = 13, 6, 4, 5, 7
DROPOUTS = {"input": 0.3, "hidden": 0.4, "output": 0.45, "embedding": 0.2, "weight": 0.5}
MASKS = Masks(7, STREAMS, range(STREAMS))


def make(cell: str = "lstm", **settings: Any) -> LanguageModel:
    """Three layers of 7, 7 and 5, tied; all dropouts unless ``dropouts`` says otherwise."""
    torch.manual_seed(0)
    dropouts = {f"{kind}_dropout": p for kind, p in settings.pop("dropouts", DROPOUTS).items()}
    sizes = {"embedding_size": EMBED, "hidden_size": HIDDEN_SIZE, "last_hidden_size": EMBED, "num_layers": 3}
    config = ModelConfig(tie_weights=True, **{**SETTINGS[cell], **sizes, **dropouts, **settings})
    return LanguageModel(config, VOCAB).double()


def tokens() -> Tensor:
    return torch.randint(VOCAB, (TIME + 1, STREAMS), generator=torch.Generator().manual_seed(3))


def mask(shape: tuple[int, ...], dropout: float, place: int, layer: int = 0) -> Tensor:
    """The mask: 0 or 1/(1 − dropout)."""
    return MASKS._draw(shape, dropout, torch.zeros((), dtype=torch.float64), place, layer)


def reference_loss(model: LanguageModel, cell: str, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean nats plus 2·AR plus 1·TAR, from the equations, one step after another, from a zero state."""
    locked = [mask((STREAMS, EMBED), 0.3, INPUT)]
    locked += [mask((STREAMS, HIDDEN_SIZE), 0.4, HIDDEN, layer) for layer in (1, 2)]
    embedding = model.embedding.weight * mask((VOCAB,), 0.2, EMBEDDING).unsqueeze(1)
    states = [zero_state(layer, STREAMS) for layer in model.recurrence.layers]
    raw = []
    for t in range(TIME):
        x = embedding[inputs[t]]
        for index, layer in enumerate(model.recurrence.layers):
            recurrent = recurrent_weight(layer)
            recurrent = recurrent * mask(tuple(recurrent.shape), 0.5, WEIGHT, index)
            states[index] = cell_step(cell, x * locked[index], states[index], layer, recurrent)
            x = states[index][0]
        raw.append(x)
    hidden = torch.stack(raw)
    dropped = hidden * mask((STREAMS, EMBED), 0.45, OUTPUT)
    logits = dropped @ model.head.weight.T + model.head.bias
    nats = -logits.log_softmax(-1).gather(2, targets.unsqueeze(2)).mean()
    change = sum(((hidden[t] - hidden[t - 1]) ** 2).sum() for t in range(1, TIME))
    return nats + 2 * (dropped**2).sum() / dropped.numel() + change / hidden[1:].numel()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_before", "qrnn", "slstm", "mogrifier"])
def test_one_update_equals_the_equations(cell: str) -> None:
    model, inputs, targets = make(cell), tokens()[:-1], tokens()[1:]
    parameters = list(model.parameters())
    expected = torch.autograd.grad(reference_loss(model, cell, inputs, targets), parameters)
    hidden, _ = model.outputs(inputs, model.initial_state(STREAMS), None, MASKS)
    dropped = model.drop_output(hidden, MASKS)
    penalty = Penalties(activation=2.0, temporal=1.0)(hidden, dropped)
    assert penalty is not None
    loss = model.head.loss(dropped, targets) / targets.numel() + penalty
    torch.testing.assert_close(loss, reference_loss(model, cell, inputs, targets), rtol=1e-12, atol=0)
    for a, b in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_penalties_by_hand() -> None:
    hidden = torch.tensor([1.0, 3.0, 2.0]).view(3, 1, 1)  # changes of 2 and −1
    dropped = torch.tensor([2.0, 0.0, 4.0]).view(3, 1, 1)
    found = Penalties(activation=3.0, temporal=0.5)(hidden, dropped)
    assert found is not None
    assert found.item() == pytest.approx(3 * (4 + 16) / 3 + 0.5 * (4 + 1) / 2)
    assert Penalties()(hidden, dropped) is None
    assert Penalties(temporal=1.0)(hidden[:1], dropped[:1]) is None  # a single step has no change


def test_without_dropout_it_is_bitwise_the_plain_lstm() -> None:
    zeros = dict.fromkeys(DROPOUTS, 0.0)
    model = make(dropouts=zeros).float()
    inputs = tokens()
    plain = [nn.LSTM(*layer.weight_ih_l0.shape[:0:-1], layer.hidden_size) for layer in model.recurrence.layers]
    x = F.embedding(inputs, model.embedding.weight)
    for layer, ours in zip(plain, model.recurrence.layers, strict=True):
        layer.load_state_dict(ours.state_dict())
        x, _ = layer(x)
    hidden, _ = model(inputs, model.initial_state(STREAMS), None, MASKS)
    assert torch.equal(hidden, x)
    weights = [p for layer in plain for p in layer.parameters()]
    found = torch.autograd.grad(hidden.square().sum(), list(model.recurrence.parameters()))
    assert all(map(torch.equal, found, torch.autograd.grad(x.square().sum(), weights)))


def test_awd_lstm_of_penn_treebank_has_its_published_size_and_needs_no_projection() -> None:
    config = ModelConfig(embedding_size=400, hidden_size=1150, last_hidden_size=400, num_layers=3, tie_weights=True)
    with torch.device("meta"):
        model = LanguageModel(config, 10_000)
    assert model.num_parameters == 24_221_600
    assert model.projection is None


def test_raw_weights_change_only_by_the_optimizer() -> None:
    model, inputs, targets = make(), tokens()[:-1], tokens()[1:]
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=1.0), model)
    step = TrainingStep(model, optimizer, clipping=Clipping(), precision="float64", seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = model.initial_state(STREAMS)
    step(inputs, targets, state, num_targets=targets.numel(), lr=0.0, index=0)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda gradient, name=name: gradients.__setitem__(name, gradient.clone()))
    step(inputs, targets, state, num_targets=targets.numel(), lr=0.5, index=1)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 0.5 * gradients[name], rtol=1e-14, atol=1e-15)
    dropped = gradients["recurrence.layers.0.weight_hh_l0"] == 0
    assert dropped.double().mean().item() == pytest.approx(0.5, abs=0.15)
    model.eval()  # scoring uses the raw weights, even if it gets masks
    hidden, _ = model(inputs, state, None, MASKS)
    assert torch.equal(hidden, model(inputs, state)[0])


def test_masks_are_locked_in_time_do_not_depend_on_ranks_and_differ_by_place() -> None:
    ones = torch.ones(TIME, STREAMS, 1000)
    whole = MASKS.locked(ones, 0.3, place=INPUT)
    assert torch.equal(whole[0].expand_as(whole), whole)
    assert (whole == 0).double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert whole.max().item() == pytest.approx(1 / 0.7, rel=1e-4)
    parts = [Masks(7, STREAMS, rows).locked(ones[:, : len(rows)], 0.3, place=INPUT) for rows in (range(1), range(1, 4))]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    others = [Masks(8, STREAMS, range(STREAMS)).locked(ones, 0.3, place=INPUT)]
    others += [MASKS.locked(ones, 0.3, place=HIDDEN, layer=layer) for layer in (1, 2)]
    for a, b in itertools.combinations([whole, *others], 2):
        assert not torch.equal(a, b)
    assert not torch.equal(whole[:, 0], whole[:, 1])  # each stream has its own mask


def test_dropped_words_are_dropped_wherever_they_stand() -> None:
    inputs = torch.randint(1000, (50, STREAMS))
    embedded = torch.ones(50, STREAMS, 3)
    dropped = MASKS.embedding(embedded, inputs, 0.1, vocab_size=1000)[..., 0]
    for word in inputs.unique():
        assert len(dropped[inputs == word].unique()) == 1
    assert (dropped == 0).double().mean().item() == pytest.approx(0.1, abs=0.08)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_before", "qrnn", "slstm", "mogrifier"])
def test_weight_dropout_with_streams_that_are_reset(cell: str) -> None:
    model, inputs = make(cell), tokens()
    resets = np.zeros((TIME + 1, STREAMS), dtype=bool)
    resets[3] = True
    zeros = model.initial_state(STREAMS)
    expected = torch.cat([model(part, zeros, None, MASKS)[0] for part in (inputs[:3], inputs[3:])])
    found, _ = model(inputs, zeros, Segments(resets, device=torch.device("cpu")), MASKS)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_recomputed_activations_have_the_same_masks() -> None:
    model, inputs = make(), tokens()
    results = []
    for run in (model, lambda *arguments: checkpoint(model, *arguments, use_reentrant=False)):
        hidden, _ = run(inputs, model.initial_state(STREAMS), None, MASKS)
        results.append(torch.autograd.grad(hidden.square().sum(), list(model.recurrence.parameters())))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_dropouts_under_autocast(precision: str) -> None:
    model, inputs = make().float(), tokens()
    expected, _ = model(inputs, model.initial_state(STREAMS), None, MASKS)
    with autocast(precision, torch.device("cpu")):
        hidden, state = model(inputs, model.initial_state(STREAMS), None, MASKS)
    hidden.float().square().sum().backward()
    torch.testing.assert_close(hidden.float(), expected, rtol=0.05, atol=0.02)
    assert all(part.dtype == torch.float32 for part in state)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.recurrence.parameters())


def test_groups_of_rows_share_the_masks_and_penalties_of_the_window() -> None:
    results = []
    for groups in (1, 3):
        model = make()
        step = TrainingStep(
            model,
            build_optimizer(OptimizerConfig(name="sgd", lr=0.5), model),
            clipping=Clipping(norm=0.25),
            precision="float64",
            seed=1,
            accumulation_steps=groups,
            penalties=Penalties(activation=2.0, temporal=1.0),
        )
        state = model.initial_state(STREAMS)
        for index in range(3):
            nats, norm, state = step(tokens()[:-1], tokens()[1:], state, num_targets=24, lr=0.5, index=index)
        results.append([nats, norm, *state, *model.parameters()])
    for whole, accumulated in zip(*results, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=1e-11, atol=1e-13)
