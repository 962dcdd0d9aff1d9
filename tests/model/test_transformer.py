"""The Transformer against nanoGPT's model and against its equations; attention beside a recurrence; their settings."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.nanogpt import NanoGPT
from pipeline.config import ModelConfig, OptimizerConfig, load
from pipeline.model.language_model import LanguageModel
from pipeline.model.past_attention import PastAttention
from pipeline.model.regularization import Masks
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep
from tests.model.transformers import CPU, STREAMS, TRANSFORMERS, VOCAB, make, read, tokens


def test_learned_positions_in_blocks_are_nanogpt_s_model() -> None:
    """Losses of six updates in float64 are equal, with the same weights, AdamW and clipping."""
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
    """The hidden vectors of one text from a zero state, (T, H), one token, head and key at a time."""
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
def test_a_transformer_equals_its_equations(name: str) -> None:
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


def test_attention_beside_a_recurrence_equals_its_equations() -> None:
    """Queries by W_q; keys and values are the normalised states; each is multiplied by the sigmoid of its gates."""
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


def test_nothing_before_the_context_is_seen() -> None:
    """Two layers that each look five tokens back see ten."""
    model = make("rotary, SwiGLU, grouped")
    inputs = tokens(20)
    whole, _ = read(model, inputs, [20])
    for changed, differs in ((9, True), (8, False)):  # the last token is number 19
        others = inputs.clone()
        others[changed] = (others[changed] + 1) % VOCAB
        found, _ = read(model, others, [20])
        assert (not torch.equal(found[19], whole[19])) is differs
        assert torch.equal(found[:changed], whole[:changed])


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_dropout_of_a_stream_does_not_depend_on_the_other_streams(name: str) -> None:
    model = make(name, hidden_dropout=0.5, input_dropout=0.2, output_dropout=0.2)
    inputs = tokens(6)
    whole, _ = model(inputs, model.initial_state(STREAMS), None, Masks(3, STREAMS, range(STREAMS)))
    part, _ = model(inputs[:, 1:], model.initial_state(2), None, Masks(3, STREAMS, range(1, STREAMS)))
    torch.testing.assert_close(part, whole[:, 1:], rtol=1e-12, atol=1e-12)
    model.eval()
    plain, _ = model(inputs, model.initial_state(STREAMS))
    assert not torch.allclose(plain, whole)


@pytest.mark.parametrize("silent", ["out_of_attention", "narrow"])
def test_plain_dropout_falls_on_what_attention_and_on_what_the_feedforward_layer_adds(silent: str) -> None:
    """One of the two adds nothing, so that only the dropout of the other is seen."""
    model = make("GELU", dropout=0.5, num_layers=1)
    with torch.no_grad():
        getattr(model.recurrence.layers[0], silent).weight.zero_()
    embedded, state = torch.randn(6, STREAMS, 16, dtype=torch.float64), model.initial_state(STREAMS)
    once, again = (model.recurrence(embedded, state)[0] for _ in range(2))
    assert not torch.equal(once, again)
    model.eval()
    once, again = (model.recurrence(embedded, state)[0] for _ in range(2))
    assert torch.equal(once, again)


def test_bf16_stays_near_float32() -> None:
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
        ("model.num_heads=2", "model.num_heads: 2, but model.cell=lstm is neither slstm nor transformer"),
        ("model.positions=learned", "model.positions: is for model.cell=transformer, not lstm"),
        ("model.context=9", "model.context: is for model.cell=transformer or with model.attention, not for lstm alone"),
        ("model.attention=3", "model.attention: there is no layer 3 (model.num_layers=2)"),
        (
            "model.attention=1 model.context=0",
            "model.context: attention in a recurrence needs a past of at least one state, not 0",
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
            "model.block_size: model.context=0 reads a text in blocks; say how many tokens each has",
        ),
        (
            f"{TRANSFORMER} model.block_size=64",
            "model.block_size: 64, but there are blocks only with model.context=0",
        ),
        (
            f"{TRANSFORMER} model.positions=learned",
            "model.positions: learned positions are positions in a block: set model.context=0",
        ),
        (f"{TRANSFORMER} model.attention=1", "model.attention: 1, but a transformer attends in every layer anyway"),
        (f"{TRANSFORMER} model.residual=true", "model.residual: true, but a transformer adds each layer's input to its "
         "output anyway"),
        (f"{TRANSFORMER} model.weight_dropout=0.5", "model.weight_dropout: 0.5, but a transformer has no recurrent "
         "weights"),
        (
            f"{TRANSFORMER} model.hidden_size=[8,16]",
            "model.hidden_size: all layers of a transformer have the same size, not [8, 16]",
        ),
        (
            f"{TRANSFORMER} model.embedding_size=8",
            "model.embedding_size: a transformer's is its model.hidden_size, 256, not 8",
        ),
        (
            f"{TRANSFORMER} model.hidden_size=250",
            "model.num_heads: a layer of 250 units (model.hidden_size) does not divide into 4 equal heads",
        ),
        (
            f"{TRANSFORMER} model.num_kv_heads=3",
            "model.num_kv_heads: 4 heads (model.num_heads) cannot share 3 equally",
        ),
        (
            f"{TRANSFORMER} model.hidden_size=12",
            "model.positions: rotary rotates pairs of numbers, but a head has 3 (model.hidden_size=12, "
            "model.num_heads=4)",
        ),
    ],
)  # fmt: skip
def test_settings_of_attention_that_contradict_each_other_are_refused(overrides: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^model") as caught:
        load(None, overrides.split())
    assert str(caught.value) == sentence
