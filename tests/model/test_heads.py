"""Adaptive softmax and mixture of softmaxes against their equations in float64, and within a whole model."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline import config as configuration
from pipeline.config import ModelConfig, OptimizerConfig
from pipeline.generate.beam import beam_search
from pipeline.generate.sampler import sample_tokens
from pipeline.model.head import AdaptiveSoftmax, Head, MixtureOfSoftmaxes, Softmax
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import autocast
from pipeline.options import Sampling
from pipeline.training.checkpoint import load_weights_into, weights_of
from pipeline.training.clipping import Clipping
from pipeline.training.optimizers import build_optimizer
from pipeline.training.step import TrainingStep
from tests.model.test_head import LargestTensor
from tests.processes import on_ranks

HIDDEN, EMBED, VOCAB = 8, 6, 40
CUTOFFS = [5, 12, 30]


def random_head(kind: str, *, tied: bool) -> Head:
    torch.manual_seed(0)
    size = HIDDEN if kind == "adaptive" else EMBED
    embedding = torch.nn.Parameter(torch.empty(VOCAB, size)) if tied else None
    head: Head
    if kind == "adaptive":
        head = AdaptiveSoftmax(HIDDEN, VOCAB, cutoffs=CUTOFFS, div_value=2, tied_to=embedding)
    else:
        head = MixtureOfSoftmaxes(HIDDEN, EMBED, VOCAB, num_experts=3, tied_to=embedding)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.double()


def probabilities(head: Any, hidden: Tensor) -> Tensor:
    """(N, H) → probabilities (N, V), from the equations."""
    if isinstance(head, MixtureOfSoftmaxes):
        prior = torch.softmax(hidden @ head.prior.weight.T, 1)
        vectors = torch.tanh(hidden @ head.experts.weight.T + head.experts.bias).chunk(3, 1)
        parts = [torch.softmax(vector @ head.weight.T + head.bias, 1) for vector in vectors]
        return sum(prior[:, k, None] * part for k, part in enumerate(parts))  # type: ignore[return-value]
    bounds = [0, *CUTOFFS, VOCAB]
    weights = [head.weight[a:b] if head.weight is not None else head.weights[i]
               for i, (a, b) in enumerate(pairwise(bounds))]  # fmt: skip
    scores = torch.cat(
        [hidden @ weights[0].T + head.bias[: CUTOFFS[0]], hidden @ head.tails.weight.T + head.tails.bias], 1
    )
    first = torch.softmax(scores, 1)
    columns = [first[:, : CUTOFFS[0]]]
    for i, (a, b) in enumerate(pairwise(bounds[1:])):
        narrowed = hidden if head.weight is not None else hidden @ head.projections[i].weight.T
        within = torch.softmax(narrowed @ weights[i + 1].T + head.bias[a:b], 1)
        columns.append(first[:, CUTOFFS[0] + i, None] * within)
    return torch.cat(columns, 1)


CASES = [(kind, tied) for kind in ("adaptive", "mixture") for tied in (False, True)]


@pytest.mark.parametrize("most_logits", [None, 2 * VOCAB])
@pytest.mark.parametrize(("kind", "tied"), CASES)
def test_loss_and_gradients_equal_the_equations(kind: str, tied: bool, most_logits: int | None) -> None:
    head = random_head(kind, tied=tied)
    hidden = torch.randn(5, 9, HIDDEN, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(VOCAB, (5, 9))
    targets[2, 3] = -100
    counted = targets.flatten() >= 0
    expected_rows = -probabilities(head, hidden.reshape(-1, HIDDEN)).log()
    expected = expected_rows.gather(1, targets.flatten().clamp(min=0)[:, None])[:, 0] * counted
    ours = head.loss(hidden, targets, most_logits=most_logits)
    inputs = [hidden, *head.parameters()]
    torch.testing.assert_close(ours, expected.sum(), rtol=1e-12, atol=0)
    for a, b in zip(
        torch.autograd.grad(3 * ours, inputs), torch.autograd.grad(3 * expected.sum(), inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    loss, each = head.loss_and_nats(hidden, targets, most_logits=most_logits)
    assert torch.equal(loss, ours)
    assert not each.requires_grad
    torch.testing.assert_close(each, expected.detach().view(5, 9), rtol=1e-12, atol=0)
    again = head.loss(hidden, targets, most_logits=most_logits)
    for a, b in zip(torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * again, inputs), strict=True):
        assert torch.equal(a, b)
    nats = head.token_nats(hidden, targets, most_logits=most_logits)
    assert not nats.requires_grad
    torch.testing.assert_close(nats, expected.detach().view(5, 9), rtol=1e-12, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(head.loss(hidden, targets, most_logits=most_logits), expected.sum())


@pytest.mark.parametrize(("kind", "tied"), CASES)
def test_logits_are_the_log_probabilities_of_the_equations(kind: str, tied: bool) -> None:
    head = random_head(kind, tied=tied)
    hidden = torch.randn(4, HIDDEN, dtype=torch.float64)
    found = head.logits(hidden.view(2, 2, HIDDEN)).log_softmax(-1).view(4, VOCAB)
    torch.testing.assert_close(found, probabilities(head, hidden).log(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("most_logits", [None, 4 * VOCAB])
@pytest.mark.parametrize(("kind", "tied"), [*CASES, ("softmax", False)])
def test_distributions_are_those_of_the_equations(kind: str, tied: bool, most_logits: int | None) -> None:
    head = random_head(kind, tied=tied) if kind != "softmax" else Softmax(HIDDEN, VOCAB).double()
    if kind == "softmax":
        head.reset_parameters()
    head.bias.data[7] = -500  # almost impossible: as a sum of probabilities its mass would be 0
    hidden = torch.randn(5, 9, HIDDEN, dtype=torch.float64)
    targets = torch.randint(8, VOCAB, (5, 9))
    targets[2, 3] = -100
    groups = torch.zeros(VOCAB, 4, dtype=torch.float64)  # every third type, type 7, no type, all types
    groups[::3, 0], groups[7, 1], groups[:, 3] = 1, 1, 1
    found = head.distribution(hidden, targets, groups, most_logits=most_logits)
    log_p = head.logits(hidden.view(-1, HIDDEN)).log_softmax(-1).detach()
    if kind != "softmax":
        possible = torch.arange(VOCAB) != 7
        equations = probabilities(head, hidden.view(-1, HIDDEN))[:, possible].log()
        torch.testing.assert_close(log_p[:, possible], equations.detach(), rtol=1e-10, atol=1e-10)
    assert not found.nats.requires_grad
    torch.testing.assert_close(found.nats, head.token_nats(hidden, targets), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found.entropy.view(-1), -(log_p.exp() * log_p).sum(1), rtol=1e-10, atol=1e-10)
    masses = found.log_masses.view(-1, 4)
    torch.testing.assert_close(masses[:, 0], log_p[:, ::3].logsumexp(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(masses[:, 1], log_p[:, 7], rtol=1e-10, atol=1e-10)
    assert (masses[:, 1] < -100).all()
    assert (masses[:, 2] == -torch.inf).all()
    torch.testing.assert_close(masses[:, 3], torch.zeros(45, dtype=torch.float64), rtol=0, atol=1e-12)
    assert head.distribution(hidden, targets, groups[:, :0]).log_masses.shape == (5, 9, 0)


@pytest.mark.parametrize(("kind", "tied"), CASES)
def test_every_parameter_has_a_gradient_whatever_the_targets(kind: str, tied: bool) -> None:
    head = random_head(kind, tied=tied)
    head.loss(torch.randn(3, 2, HIDDEN, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.int64)).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    if kind == "adaptive":  # no target is in a tail, so the types of tails learn nothing
        assert head.bias.grad[CUTOFFS[0] :].abs().max() == 0  # type: ignore[index, union-attr]


@pytest.mark.parametrize("kind", ["adaptive", "mixture"])
def test_chunks_keep_the_logits_small(kind: str) -> None:
    head = random_head(kind, tied=True).float()
    hidden, targets = torch.randn(100, 10, HIDDEN, requires_grad=True), torch.randint(VOCAB, (100, 10))
    with LargestTensor() as largest:
        head.loss(hidden, targets, most_logits=9000).backward()
    # hidden vectors, and those of the mixture's 3 experts, grow with the number of tokens all the same
    assert largest.size <= max(9000, 1000 * 3 * EMBED)  # all logits of a mixture at once would be 120,000


def model_with(head: str, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    values = {"embedding_size": EMBED, "hidden_size": HIDDEN, "num_layers": 1, "num_experts": 3, **settings}
    return LanguageModel(ModelConfig(head=head, adaptive_cutoffs=CUTOFFS, **values), VOCAB)  # type: ignore[arg-type]


def gradients_of(
    model: LanguageModel, *, rank: int = 0, world_size: int = 1, accumulate: int = 1
) -> tuple[float, list[Tensor]]:
    """Nats and weights after one update from a window whose ranks have different tails among their targets."""
    model.double()
    optimizer = build_optimizer(OptimizerConfig(name="sgd", lr=1.0), model)
    step = TrainingStep(model, optimizer, clipping=Clipping(norm=100.0), precision="float64", seed=1,
                        accumulation_steps=accumulate, batch_size=4, rank=rank, world_size=world_size)  # fmt: skip
    tokens = torch.randint(VOCAB, (6, 4), generator=torch.Generator().manual_seed(2))
    tokens[:, 2:] %= CUTOFFS[0]  # the second rank's streams have only frequent types
    rows = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
    mine = tokens[:, rows]
    nats, _, _ = step(mine[:-1], mine[1:], model.initial_state(rows.stop - rows.start), num_targets=20, lr=1.0, index=0)
    return float(nats), [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("head", ["adaptive", "mixture"])
def test_accumulated_updates_equal_whole_ones(head: str) -> None:
    nats, weights = gradients_of(model_with(head, tie_weights=True))
    again, accumulated = gradients_of(model_with(head, tie_weights=True), accumulate=2)
    assert again == pytest.approx(nats, rel=1e-12)
    for a, b in zip(accumulated, weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def one_of_two_ranks(rank: int, directory: str) -> None:
    found = {head: gradients_of(model_with(head, tie_weights=True), rank=rank, world_size=2)
             for head in ("adaptive", "mixture")}  # fmt: skip
    torch.save(found, Path(directory) / f"rank-{rank}.pt")


def test_two_ranks_make_the_update_of_one(tmp_path: Path) -> None:
    on_ranks(one_of_two_ranks, 2, str(tmp_path))
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for head in ("adaptive", "mixture"):
        nats, weights = gradients_of(model_with(head, tie_weights=True))
        assert ranks[0][head][0] + ranks[1][head][0] == pytest.approx(nats, rel=1e-12)
        for rank in ranks:
            for a, b in zip(rank[head][1], weights, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("head", ["adaptive", "mixture"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_stays_near_float32(head: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.model.precision.has_bf16_products", lambda: True)
    model = model_with(head)
    hidden, targets = torch.randn(5, 4, HIDDEN), torch.randint(VOCAB, (5, 4))
    expected = model.head.loss(hidden, targets)
    with autocast(precision, torch.device("cpu")):
        nats = model.head.loss(hidden, targets)
    nats.backward()
    assert nats.dtype == torch.float32
    assert nats.item() == pytest.approx(expected.item(), rel=0.01)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.head.parameters())


@pytest.mark.parametrize("head", ["adaptive", "mixture"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_saved_once_and_loaded_unchanged(head: str, tied: bool, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = model_with(head, tie_weights=tied)
    weights = weights_of(model)
    assert sum(tensor.numel() for tensor in weights.values()) == model.num_parameters
    save_file(weights, str(tmp_path / "weights.safetensors"))
    other = model_with(head, tie_weights=tied, init_range=0.5)
    load_weights_into(other, tmp_path)
    for a, b in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not tied or other.head.weight is other.embedding.weight


@pytest.mark.parametrize("head", ["adaptive", "mixture"])
def test_models_with_these_heads_write_text_and_search_with_beams(head: str) -> None:
    model = model_with(head, tie_weights=True).double().eval()
    prompt = torch.tensor([1, 2, 3]).numpy()
    greedy = list(sample_tokens(model, prompt, num_tokens=6, seed=1, sampling=Sampling(temperature=0)))
    best = beam_search(model, prompt, num_tokens=6, num_beams=1)
    assert list(best.tokens) == greedy
    inputs = torch.tensor([1, 2, 3, *greedy])[:, None]
    hidden, _ = model(inputs[:-1], model.initial_state(1))
    assert -model.head.token_nats(hidden, inputs[1:])[2:].sum().item() == pytest.approx(best.log_probability)


def test_parameters_of_an_untied_adaptive_softmax() -> None:
    with torch.device("meta"):
        model = LanguageModel(ModelConfig(head="adaptive", hidden_size=400, num_layers=1), 267_735)
    sizes, widths = [2677, 17_918, 55_901, 191_239], [400, 100, 25, 6]
    expected = sum(size * width for size, width in zip(sizes, widths, strict=True))
    expected += 400 * (100 + 25 + 6) + 3 * 401 + 267_735
    assert sum(parameter.numel() for parameter in model.head.parameters()) == expected


def test_mistakes_in_head_settings_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"model\.adaptive_cutoffs: \[10, 50\] must lie within .* 40 types"):
        LanguageModel(ModelConfig(head="adaptive", adaptive_cutoffs=[10, 50]), 40)
    with pytest.raises(ValueError, match=r"model\.adaptive_cutoffs: .* 12 types"):
        LanguageModel(ModelConfig(head="adaptive"), 12)
    with pytest.raises(ValidationError, match=r"must be rising ids of at least 1, not \[9, 9\]"):
        ModelConfig(adaptive_cutoffs=[9, 9])
    with pytest.raises(ValueError, match=r"model\.head: adaptive needs ids in order of frequency.*not bpe"):
        configuration.validate({"model": {"head": "adaptive"}, "tokenizer": {"kind": "bpe"}})
