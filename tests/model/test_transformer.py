"""The Transformer against nanoGPT's model and against its equations; its cache; attention beside a recurrence."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.nanogpt import NanoGPT
from pipeline.config import ModelConfig, OptimizerConfig, load
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.past_attention import PastAttention
from pipeline.model.regularization import Masks
from pipeline.model.segments import Segments
from pipeline.model.state import State, concatenate, detach, select
from pipeline.model.stepper import Stepper
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep

VOCAB, STREAMS = 11, 3
CPU = torch.device("cpu")
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "rotary, SwiGLU, grouped": {"cell": "transformer", "num_kv_heads": 2, "context": 5},
    "GELU": {"cell": "transformer", "feedforward": "gelu", "num_kv_heads": 1, "context": 30, "tie_weights": True},
    "rotary in blocks": {"cell": "transformer", "context": 0, "block_size": 7},
    "nanoGPT": {"cell": "transformer", "positions": "learned", "feedforward": "gelu", "context": 0, "block_size": 7},
    "beside an LSTM": {"cell": "lstm", "attention": 1, "context": 5},
    "beside a QRNN": {"cell": "qrnn", "attention": 2, "context": 30, "hidden_size": [16, 12]},
}  # fmt: skip


def make(name: str, **others: Any) -> LanguageModel:
    """With weights so large that attention tells tokens apart."""
    torch.manual_seed(0)
    config = ModelConfig(**{"hidden_size": 16, "num_layers": 2, **TRANSFORMERS[name], **others})
    model = LanguageModel(config, VOCAB).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def tokens(length: int, *, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB, (length, STREAMS), generator=torch.Generator().manual_seed(seed))


def read(model: LanguageModel, inputs: Tensor, lengths: list[int], state: State | None = None) -> tuple[Tensor, State]:
    """Read ``inputs`` in windows of ``lengths``."""
    state = state or model.initial_state(inputs.shape[1])
    outputs = []
    for window in inputs.split(lengths):
        hidden, state = model(window, state)
        outputs.append(hidden)
    return torch.cat(outputs), state


def test_learned_positions_in_blocks_are_nanogpt_s_model() -> None:
    """Losses of six updates, in float64: the same weights, AdamW, clipping."""
    for tied in (False, True):
        model = make("nanoGPT", tie_weights=tied)
        peer = NanoGPT(model, num_heads=4)
        assert sum(p.numel() for p in peer.parameters()) == model.num_parameters
        optimizer = peer.optimizer(lr=1e-2, weight_decay=0.1)
        step = TrainingStep(
            model,
            build_optimizer(OptimizerConfig(name="adamw", lr=1e-2, weight_decay=0.1), model),
            clipping=Clipping(norm=0.5),
            precision="float64",
            seed=1,
        )
        state = model.initial_state(STREAMS)
        for index in range(6):
            ids = tokens(8, seed=index)  # a block and the target of its last token
            nats, _, state = step(ids[:-1], ids[1:], state, num_targets=21, lr=1e-2, index=index)
            loss = peer(ids[:-1].t(), ids[1:].t())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.5)
            optimizer.step()
            assert nats.item() / 21 == pytest.approx(loss.item(), rel=1e-7)  # torch's clipping adds 1e-6 to the norm


def turned(vector: Tensor, place: int) -> Tensor:
    """Pair i of (D,) numbers turned by the angle place · 10000^(−2i/D) (Su et al. 2021, equation 34).

    Rates are rounded to whole turns in 2^23 places.
    """
    result = torch.empty_like(vector)
    for i in range(0, len(vector), 2):
        turn = 2 * math.pi / 2**23
        angle = place * turn * round(10000.0 ** (-i / len(vector)) / turn)
        cos, sin = math.cos(angle), math.sin(angle)
        result[i] = vector[i] * cos - vector[i + 1] * sin
        result[i + 1] = vector[i] * sin + vector[i + 1] * cos
    return result


def equations(model: LanguageModel, config: ModelConfig, ids: list[int]) -> Tensor:
    """(T, H) of one text from nothing, a token, a head and a key at a time."""
    recurrence: Any = model.recurrence
    size, num_heads = 16, config.num_heads
    key_heads, width = config.num_kv_heads or num_heads, size // num_heads

    def normalized(x: Tensor, weight: Tensor) -> Tensor:
        x = x - x.mean()
        return x / (x.square().mean() + 1e-5).sqrt() * weight

    rows = [model.embedding.weight[i] for i in ids]
    for block in recurrence.layers:
        products = [block.into_attention.weight @ normalized(x, block.norms[0].weight) for x in rows]
        found = []
        for t, x in enumerate(rows):
            heads = []
            first = t - t % config.num_slots if config.context == 0 else max(0, t - config.num_slots)
            for head in range(num_heads):
                group = head // (num_heads // key_heads)
                at = range(first, t + 1)
                query = turned(products[t][head * width : (head + 1) * width], t)
                keys = [turned(products[s][size + group * width :][:width], s) for s in at]
                values = torch.stack([products[s][size + (key_heads + group) * width :][:width] for s in at])
                weights = torch.stack([query @ key for key in keys]).div(math.sqrt(width)).exp()
                heads.append(weights / weights.sum() @ values)
            x = x + block.out_of_attention.weight @ torch.cat(heads)
            wide = block.widen.weight @ normalized(x, block.norms[1].weight)
            if config.feedforward == "swiglu":
                gate, value = wide.chunk(2)
                wide = gate * torch.sigmoid(gate) * value
            else:
                wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
            found.append(x + block.narrow.weight @ wide)
        rows = found
    return torch.stack([normalized(x, recurrence.norms[0].weight) for x in rows])


@pytest.mark.parametrize("name", ["rotary, SwiGLU, grouped", "GELU", "rotary in blocks"])
def test_a_transformer_is_its_equations(name: str) -> None:
    model = make(name)
    ids = tokens(9)[:, :1]
    found, _ = read(model, ids, [4, 5])
    config = ModelConfig(hidden_size=16, **TRANSFORMERS[name])
    expected = equations(model, config, ids[:, 0].tolist()).unsqueeze(1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(hidden.pow(3).sum(), list(model.recurrence.parameters()))
        for hidden in (model(ids, model.initial_state(1))[0], expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_attention_beside_a_recurrence_is_its_equations() -> None:
    """Query W_q, keys and values the normalised states, each times a sigmoid of its gates."""
    torch.manual_seed(0)
    layer = PastAttention(6, num_slots=4).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    hidden = torch.randn(9, 2, 6, dtype=torch.float64)
    found, _ = layer(hidden, layer.initial_state(2, device=CPU, dtype=torch.float64))
    asking, query, remembering = ((norm.weight, norm.bias) for norm in layer.norms)
    gates = torch.sigmoid(layer.gates).view(3, 6)
    for stream, t in itertools.product(range(2), range(9)):
        past = F.layer_norm(hidden[max(0, t - 4) : t + 1, stream], (6,), *remembering)
        asked = layer.query.weight @ F.layer_norm(hidden[t, stream], (6,), *asking)
        scores = (past * gates[1]) @ (F.layer_norm(asked, (6,), *query) * gates[0]) / math.sqrt(6)
        expected = hidden[t, stream] + scores.softmax(0) @ (past * gates[2])
        torch.testing.assert_close(found[t, stream], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_how_a_text_is_cut_into_windows_changes_nothing(name: str) -> None:
    model = make(name)
    inputs = tokens(23)
    whole, end = read(model, inputs, [23])
    for lengths in ([1] * 23, [5, 4, 14], [2, 1, 7, 13], [7, 7, 7, 2]):
        found, state = read(model, inputs, lengths)
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-12)
        after = [read(model, tokens(8, seed=2), [8], each)[0] for each in (state, end)]
        torch.testing.assert_close(*after, rtol=1e-11, atol=1e-12)


def resets_at(length: int, *places: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((length, STREAMS), dtype=bool)
    for step, stream in places:
        mask[step, stream] = True
    return mask


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize(
    "resets",
    [
        resets_at(9, (0, 1), (3, 1), (4, 1), (8, 1), (5, 2)),
        resets_at(9, (0, 0), (0, 2)),
        np.ones((9, STREAMS), dtype=bool),
        resets_at(9),
    ],
)
def test_each_stretch_between_resets_is_as_if_run_alone(name: str, resets: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
    model = make(name)
    before, inputs, after = tokens(6), tokens(9, seed=2), tokens(9, seed=3)
    state = detach(read(model, before, [6])[1])
    expected, ends = [], []
    for stream in range(STREAMS):
        own, column = select(state, slice(stream, stream + 1)), inputs[:, stream : stream + 1]
        cuts = sorted({0, *np.flatnonzero(resets[:, stream]).tolist(), 9})
        parts = []
        for begin, end in itertools.pairwise(cuts):
            own = model.initial_state(1) if resets[begin, stream] else own
            hidden, own = model(column[begin:end], own)
            parts.append(hidden)
        expected.append(torch.cat(parts))
        ends.append(own)
    found, end_state = model(inputs, state, Segments(resets, device=CPU))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=1e-11, atol=1e-12)
    # streams of different places side by side
    torch.testing.assert_close(
        read(model, after, [4, 5], end_state)[0], read(model, after, [9], concatenate(ends))[0], rtol=1e-11, atol=1e-12
    )
    ours, theirs = (
        torch.autograd.grad(hidden.pow(3).sum(), list(model.recurrence.parameters()), allow_unused=True)
        for hidden in (found, torch.cat(expected, dim=1))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_nothing_before_the_context_is_seen() -> None:
    """Two layers that look five tokens back see ten."""
    model = make("rotary, SwiGLU, grouped")
    inputs = tokens(20)
    whole, _ = read(model, inputs, [20])
    for changed, differs in ((9, True), (8, False)):  # the last token is number 19
        others = inputs.clone()
        others[changed] = (others[changed] + 1) % VOCAB
        found, _ = read(model, others, [20])
        assert (not torch.equal(found[19], whole[19])) is differs
        assert torch.equal(found[:changed], whole[:changed])


def test_no_gradient_goes_into_the_window_before() -> None:
    model = make("rotary, SwiGLU, grouped")
    inputs = tokens(8)
    gradients = []
    for state in (read(model, inputs[:4], [4])[1], model.initial_state(STREAMS)):
        carried = detach(state)
        hidden, _ = model(inputs[4:], carried)
        gradients.append(torch.autograd.grad(hidden.pow(3).sum(), model.embedding.weight)[0])
    used = torch.zeros(VOCAB, dtype=torch.bool).scatter_(0, inputs[4:].flatten(), True)
    for gradient in gradients:
        assert not gradient[~used].any()
    assert not torch.allclose(*gradients)  # but what was carried does count


def test_counts_go_around_where_float32_has_no_room_for_them() -> None:
    """What is read at a count of 2^24 − 2 is what is read 2^23 tokens earlier, and from there on."""
    model = make("rotary, SwiGLU, grouped")
    before, inputs = tokens(6), tokens(9, seed=2)
    _, (keys, values, counts) = read(model, before, [6])
    found = []
    for number in (2**24 - 2, 2**23 - 2):
        state = (torch.zeros_like(keys), torch.zeros_like(values), counts.clone())
        state[2][..., 0] = number
        hidden, state = read(model, torch.cat([before, inputs]), [6, 5, 4], state)
        found.append(hidden[6:])
        assert state[2][..., 0].unique().tolist() == [2**23 + 13]
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_single_steps_go_round_the_ring(name: str) -> None:
    """Windows and steps by turns, streams of different places side by side."""
    model = make(name)
    inputs = tokens(40)
    starts = resets_at(6, (2, 1), (5, 2))
    with evaluating(model):
        hidden, expected_state = model(inputs[:6], model.initial_state(STREAMS), Segments(starts, device=CPU))
        state = select(expected_state, torch.arange(STREAMS))  # steps use it up
        whole, _ = model(inputs[6:], expected_state)
        expected = model.head.logits(whole)
        stepper = Stepper(model)
        at = 6
        for length in (3, 9, 1, 4, 14):
            for token in inputs[at : at + length]:
                logits, state = stepper(token, state)
                torch.testing.assert_close(logits, expected[at - 6], rtol=1e-10, atol=1e-11)
                at += 1
            state = select(state, torch.arange(STREAMS))
            if at < 38:
                hidden, state = model(inputs[at : at + 1], state)
                torch.testing.assert_close(model.head.logits(hidden[0]), expected[at - 6], rtol=1e-10, atol=1e-11)
                at += 1


def test_a_state_from_before_there_was_a_ring_is_read_on() -> None:
    model = make("beside an LSTM")
    expected, _ = read(model, tokens(12), [6, 6])
    *parts, count = read(model, tokens(12)[:6], [6])[1]
    found, _ = read(model, tokens(12)[6:], [6], (*parts, count[..., :1]))
    torch.testing.assert_close(found, expected[6:])


def test_the_state_does_not_grow() -> None:
    for name in TRANSFORMERS:
        model = make(name)
        shapes = [part.shape for part in model.initial_state(STREAMS)]
        for length in (1, 3, 40):
            assert [part.shape for part in read(model, tokens(length), [length])[1]] == shapes


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_dropout_falls_on_what_layers_add_and_is_the_streams_own(name: str) -> None:
    model = make(name, hidden_dropout=0.5, input_dropout=0.2, output_dropout=0.2)
    inputs = tokens(6)
    whole, _ = model(inputs, model.initial_state(STREAMS), None, Masks(3, STREAMS, range(STREAMS)))
    part, _ = model(inputs[:, 1:], model.initial_state(2), None, Masks(3, STREAMS, range(1, STREAMS)))
    torch.testing.assert_close(part, whole[:, 1:], rtol=1e-12, atol=1e-12)
    model.eval()
    plain, _ = model(inputs, model.initial_state(STREAMS))
    assert not torch.allclose(plain, whole)


def test_in_bf16_it_stays_near() -> None:
    for name in TRANSFORMERS:
        model = make(name).float()
        inputs = tokens(12)
        exact, _ = read(model, inputs, [6, 6])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, state = read(model, inputs, [6, 6])
        assert all(part.dtype == torch.float32 for part in state)
        assert float((found - exact).detach().norm() / exact.detach().norm()) < 0.05


TRANSFORMER = "model.cell=transformer"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("model.num_heads=2", "model.num_heads: 2, but model.cell=lstm is no slstm or transformer"),
        ("model.positions=learned", "model.positions: is for model.cell=transformer, not lstm"),
        ("model.context=9", "model.context: is for model.cell=transformer or with model.attention, not for lstm alone"),
        ("model.attention=3", "model.attention: there is no layer 3 (model.num_layers=2)"),
        (
            "model.attention=1 model.context=0",
            "model.context: attention beside a recurrence needs a past of at least one state, not 0",
        ),
        (
            "model.attention=2 model.context=50",
            "model.context: 50 tokens are shorter than the window, train.bptt=64",
        ),
        (
            f"{TRANSFORMER} train.bptt=257",
            "model.context: 256 tokens (the default) are shorter than the window, train.bptt=257",
        ),
        (
            f"{TRANSFORMER} model.context=0 model.block_size=63",
            "model.block_size: 63 tokens are shorter than the window, train.bptt=64",
        ),
        (
            f"{TRANSFORMER} model.context=0",
            "model.block_size: model.context=0 reads a text in blocks; say of how many tokens",
        ),
        (
            f"{TRANSFORMER} model.block_size=64",
            "model.block_size: 64, but there are blocks only with model.context=0",
        ),
        (
            f"{TRANSFORMER} model.positions=learned",
            "model.positions: learned positions are those of a block: set model.context=0",
        ),
        (f"{TRANSFORMER} model.attention=1", "model.attention: 1, but a transformer attends in every layer anyway"),
        (f"{TRANSFORMER} model.residual=true", "model.residual: true, but a transformer adds each layer's input to its "
         "output anyway"),
        (f"{TRANSFORMER} model.weight_dropout=0.5", "model.weight_dropout: 0.5, but a transformer has no recurrent "
         "weights"),
        (
            f"{TRANSFORMER} model.hidden_size=[8,16]",
            "model.hidden_size: all layers of a transformer have one size, not [8, 16]",
        ),
        (
            f"{TRANSFORMER} model.embedding_size=8",
            "model.embedding_size: a transformer's is its model.hidden_size, 256, not 8",
        ),
        (
            f"{TRANSFORMER} model.hidden_size=250",
            "model.num_heads: a layer of 250 units (model.hidden_size) does not go into 4 equal heads",
        ),
        (
            f"{TRANSFORMER} model.num_kv_heads=3",
            "model.num_kv_heads: 4 heads (model.num_heads) cannot share 3 equally",
        ),
        (
            f"{TRANSFORMER} model.hidden_size=12",
            "model.positions: rotary turns pairs of numbers, but a head has 3 (model.hidden_size=12, "
            "model.num_heads=4)",
        ),
    ],
)  # fmt: skip
def test_settings_of_attention_that_do_not_go_together(overrides: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^model") as caught:
        load(None, overrides.split())
    assert str(caught.value) == sentence
