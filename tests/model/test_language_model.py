"""Each cell against its equations in float64, forward and gradients, and the model around it."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.config import ModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from tests.model.reference import SETTINGS, cell_step, zero_state

VOCAB, TIME, STREAMS, EMBED, HIDDEN = 13, 6, 3, 5, 7


def make(cell: str = "lstm", **settings: object) -> LanguageModel:
    torch.manual_seed(0)
    values = {**SETTINGS[cell], "embedding_size": EMBED, "hidden_size": HIDDEN, "num_layers": 2, **settings}
    return LanguageModel(ModelConfig(**values), VOCAB).double()  # type: ignore[arg-type]


def tokens(length: int = TIME) -> Tensor:
    return torch.randint(VOCAB, (length, STREAMS), generator=torch.Generator().manual_seed(3))


def reference_nats(model: LanguageModel, cell: str, inputs: Tensor, targets: Tensor) -> Tensor:
    """Σ −log p(target), with plain products, one time step after another, from a zero state."""
    states = [zero_state(layer, STREAMS) for layer in model.recurrence.layers]
    total = torch.zeros((), dtype=torch.float64)
    for t in range(len(inputs)):
        x = model.embedding.weight[inputs[t]]
        for index, layer in enumerate(model.recurrence.layers):
            states[index] = cell_step(cell, x, states[index], layer)
            x = states[index][0]
        if model.projection is not None:
            x = x @ model.projection.weight.T
        logits = x @ model.head.weight.T + model.head.bias
        log_p = logits - logits.exp().sum(1, keepdim=True).log()
        total = total - log_p[torch.arange(STREAMS), targets[t]].sum()
    return total


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", SETTINGS)
def test_cells_equal_their_equations(cell: str, tied: bool) -> None:
    model = make(cell, tie_weights=tied)
    inputs, targets = tokens(), tokens().roll(1, 0)
    hidden, _ = model(inputs, model.initial_state(STREAMS))
    ours = model.head.loss(hidden, targets)
    gradients = torch.autograd.grad(ours, list(model.parameters()))
    expected = reference_nats(model, cell, inputs, targets)
    expected_gradients = torch.autograd.grad(expected, list(model.parameters()))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", SETTINGS)
def test_two_windows_with_carried_state_are_one_long_window(cell: str) -> None:
    model = make(cell, qrnn_wide_layers="all")
    inputs = tokens(10)
    whole, end = model(inputs, model.initial_state(STREAMS))
    first, state = model(inputs[:4], model.initial_state(STREAMS))
    second, state = model(inputs[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b in zip(state, end, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("head", ["softmax", "adaptive", "mixture"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32])
def test_ids_of_any_integer_type_are_read(dtype: torch.dtype, head: str) -> None:
    # tokenizers return and shards hold uint16 and uint32
    model = make(head=head, adaptive_cutoffs=[4, 8], embedding_dropout=0.3)
    ids = torch.from_numpy(tokens().numpy().astype(str(dtype).removeprefix("torch.")))
    assert ids.dtype is dtype
    for _ in range(2):
        torch.manual_seed(1)
        expected, _ = model(tokens(), model.initial_state(STREAMS))
        torch.manual_seed(1)
        hidden, _ = model(ids, model.initial_state(STREAMS))
        assert torch.equal(hidden, expected)
        assert torch.equal(model.head.token_nats(hidden, ids), model.head.token_nats(hidden, tokens()))
        assert torch.equal(model.head.loss(hidden, ids), model.head.loss(hidden, tokens()))
        model.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_ids_that_are_not_integers_are_refused(dtype: torch.dtype) -> None:
    model = make()
    with pytest.raises(TypeError, match=f"token ids must be integers, not {dtype}"):
        model(tokens().to(dtype), model.initial_state(STREAMS))


def test_tied_weights_are_one_tensor_and_sizes_are_counted_once() -> None:
    tied = make(tie_weights=True, hidden_size=EMBED)
    assert tied.head.weight is tied.embedding.weight
    assert tied.projection is None
    lstm = 2 * 4 * EMBED * (EMBED + EMBED + 2)
    assert tied.num_parameters == VOCAB * EMBED + lstm + VOCAB
    projected = make(tie_weights=True)
    lstm = 4 * HIDDEN * (EMBED + HIDDEN + 2) + 4 * HIDDEN * (2 * HIDDEN + 2)
    assert projected.num_parameters == VOCAB * EMBED + lstm + HIDDEN * EMBED + VOCAB


def test_initial_weights_depend_on_the_seed_and_stay_within_their_range() -> None:
    for a, b in zip(make().parameters(), make().parameters(), strict=True):
        assert torch.equal(a, b)
    model = make(init_range=0.05)
    for parameter in model.parameters():
        assert 0.03 < parameter.abs().max() <= 0.05
    default = make()
    assert 0.95 / math.sqrt(HIDDEN) < default.head.weight.abs().max() <= 1 / math.sqrt(HIDDEN)
    assert default.head.bias.abs().max() == 0


@pytest.mark.parametrize("cell", SETTINGS)
def test_the_input_gain_multiplies_only_the_input_weights(cell: str) -> None:
    usual, gained = make(cell, input_gain=1.0), make(cell)
    scaled = {id(weight) for weight in gained.recurrence.input_weights}
    assert len(scaled) == len(gained.recurrence.layers)
    for before, after in zip(usual.parameters(), gained.parameters(), strict=True):
        torch.testing.assert_close(after, before * 3 if id(after) in scaled else before, rtol=1e-6, atol=0)


def test_init_range_also_applies_to_input_weights() -> None:
    weights = make(init_range=0.05).recurrence.input_weights
    assert all(weight.abs().max() <= 0.05 for weight in weights)
    assert make(init_range=0.05, input_gain=3.0).recurrence.input_weights[0].abs().max() > 0.1


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, math.sqrt(3)),
        ({"tie_weights": True}, 0.1),
        ({"init_range": 0.05}, 0.05),
        ({"embedding_range": 0.7}, 0.7),
        ({"init_range": 0.05, "embedding_range": 0.7}, 0.7),
        ({"tie_weights": True, "embedding_range": 0.7}, 0.7),
    ],
)
def test_the_initial_range_of_embeddings(settings: dict[str, object], limit: float) -> None:
    weight = make(**{"embedding_size": 100, **settings}).embedding.weight
    assert 0.98 * limit < weight.abs().max() <= limit
    assert weight.square().mean().item() == pytest.approx(limit**2 / 3, rel=0.1)


def test_the_embeddings_of_a_transformer_start_small() -> None:
    model = LanguageModel(ModelConfig(cell="transformer", hidden_size=16, num_heads=2), VOCAB)
    assert model.embedding.weight.abs().max() <= 0.1


def test_what_the_layers_of_a_transformer_add_starts_smaller_the_more_they_are() -> None:
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(cell="transformer", hidden_size=64, num_heads=2, num_layers=8), VOCAB)
    for block in model.recurrence.layers:
        for matrix, deviation in (
            (block.into_attention, 0.02), (block.widen, 0.02), (block.out_of_attention, 0.005), (block.narrow, 0.005)
        ):  # fmt: skip
            assert matrix.weight.std().item() == pytest.approx(deviation, rel=0.1)  # 0.02 / √(2 · 8)


def test_dropout_only_in_training_and_keeps_the_mean() -> None:
    model = make(dropout=0.5, num_layers=1)
    model.eval()
    once, _ = model(tokens(), model.initial_state(STREAMS))
    twice, _ = model(tokens(), model.initial_state(STREAMS))
    assert torch.equal(once, twice)
    model.train()
    hidden, _ = model(tokens().repeat(300, 1), model.initial_state(STREAMS))
    assert (hidden == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_dropout_falls_on_the_embedding_and_between_layers() -> None:
    model = make(dropout=0.25, init_range=0.1, num_layers=3)
    inputs = tokens().repeat(100, 1)
    seen: list[Tensor] = []
    for layer in model.recurrence.layers:
        layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    model(inputs, model.initial_state(STREAMS))
    for dropped in seen:
        assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    kept = seen[0] != 0
    torch.testing.assert_close(seen[0][kept], (model.embedding(inputs).detach() / 0.75)[kept])


@pytest.mark.parametrize("cell", SETTINGS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_on_a_cpu_stays_near_float32(cell: str, precision: str) -> None:
    model = make(cell).float()
    inputs, targets = tokens(), tokens().roll(1, 0)
    hidden, _ = model(inputs, model.initial_state(STREAMS))
    expected = model.head.loss(hidden, targets)
    with autocast(precision, torch.device("cpu")):
        hidden, state = model(inputs, model.initial_state(STREAMS))
        nats = model.head.loss(hidden, targets)
    nats.backward()
    assert nats.dtype == torch.float32
    assert all(part.dtype == torch.float32 for part in state)
    assert nats.item() == pytest.approx(expected.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
