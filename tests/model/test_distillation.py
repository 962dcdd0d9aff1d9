"""The loss with a teacher: by hand, and against its equations in float64 for every head."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.model.head import Head, Softmax
from pipeline.model.head.distillation import SoftTargets, TopTargets, WholeTargets, log_masses
from tests.model.test_heads import VOCAB, random_head

HIDDEN = 8
# softmax(ln 1, ln 2, ln 3) = 1/6, 1/3, 1/2
LOGITS, TAUGHT = torch.tensor([1.0, 2.0, 3.0]).log(), torch.tensor([0.5, 0.25, 0.25]).log()


def constant_head() -> Softmax:
    """A head whose logits are ``LOGITS`` for any hidden vector."""
    head = Softmax(1, 3).double()
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(LOGITS)
    return head


def whole(logits: Tensor, *, weight: float = 0.5, temperature: float = 1.0) -> WholeTargets:
    """The targets of a teacher with these (T, B, V) logits."""
    return WholeTargets(weight, temperature, logits.shape[-1], hidden=logits, logits=lambda rows: rows)


def top(logits: Tensor, top_k: int, *, weight: float = 0.5, temperature: float = 1.0) -> TopTargets:
    log_q, types = (logits / temperature).log_softmax(-1).topk(top_k)
    return TopTargets(weight, temperature, logits.shape[-1], types=types, log_q=log_q)


def test_masses_that_rounding_put_above_one_are_made_one() -> None:
    found, rest = log_masses(torch.tensor([[0.8, 0.4], [0.5, 0.25]]).log())
    torch.testing.assert_close(found.exp(), torch.tensor([[2 / 3, 1 / 3], [0.5, 0.25]]))
    torch.testing.assert_close(rest, torch.tensor([[0.0], [0.25]]))


def test_the_loss_of_a_token_by_hand() -> None:
    hidden, target = torch.zeros(1, 1, 1, dtype=torch.float64), torch.tensor([[2]])
    taught = TAUGHT.double().view(1, 1, 3)
    nats = math.log(2)
    # Σ q ln (q ÷ p)
    divergence = 0.5 * math.log(3) + 0.25 * math.log(3 / 4) + 0.25 * math.log(1 / 2)
    found = constant_head().distill(hidden, target, whole(taught, weight=0.25))
    assert [part.item() for part in found] == pytest.approx([0.75 * nats + 0.25 * divergence, nats, divergence])
    # the teacher's likeliest type, and the others together: 1/2 against 1/6, and 1/2 against 5/6
    divergence = 0.5 * math.log(3) + 0.5 * math.log(3 / 5)
    found = constant_head().distill(hidden, target, top(taught, 1, weight=0.25))
    assert [part.item() for part in found] == pytest.approx([0.75 * nats + 0.25 * divergence, nats, divergence])
    # at temperature 2 both are proportional to their square roots, and the divergence counts four times
    p, q = ([math.sqrt(x) for x in values] for values in ((1, 2, 3), (2, 1, 1)))
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    divergence = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    found = constant_head().distill(hidden, target, whole(taught, weight=0.25, temperature=2.0))
    assert [part.item() for part in found] == pytest.approx([0.75 * nats + divergence, nats, divergence])


def equations(head: Any, hidden: Tensor, targets: Tensor, soft: SoftTargets, logits: Tensor, top_k: int) -> Tensor:
    """The summed loss, computed from dense distributions over outcomes; ``logits`` are the teacher's."""
    tau, counted = soft.temperature, targets.flatten() >= 0
    ours = head.logits(hidden).flatten(0, 1)
    nats = -ours.log_softmax(-1).gather(1, targets.flatten().clamp(min=0)[:, None])[:, 0]
    p, q = (x.softmax(-1) for x in (ours / tau, logits.flatten(0, 1) / tau))
    if top_k < VOCAB:
        order = q.argsort(-1, descending=True)
        p, q = p.gather(1, order), q.gather(1, order)
        p, q = (torch.cat([x[:, :top_k], x[:, top_k:].sum(-1, keepdim=True)], 1) for x in (p, q))
    divergence = (q * (q / p).log()).sum(-1)
    return (((1 - soft.weight) * nats + soft.weight * tau**2 * divergence) * counted).sum()


@pytest.mark.parametrize("most_logits", [None, 7 * VOCAB])
@pytest.mark.parametrize(("top_k", "temperature"), [(None, 1.0), (None, 2.0), (3, 1.0), (3, 2.0), (VOCAB, 1.0)])
@pytest.mark.parametrize("kind", ["softmax", "adaptive", "mixture"])
def test_loss_and_gradients_equal_the_equations(
    kind: str, top_k: int | None, temperature: float, most_logits: int | None
) -> None:
    head: Head
    if kind == "softmax":
        torch.manual_seed(0)
        head = Softmax(HIDDEN, VOCAB).double()
        torch.nn.init.normal_(head.weight)
        torch.nn.init.normal_(head.bias)
    else:
        head = random_head(kind, tied=False)
    hidden = torch.randn(5, 9, HIDDEN, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(VOCAB, (5, 9))
    targets[2, 3] = -100
    taught = 2 * torch.randn(5, 9, VOCAB, dtype=torch.float64)
    how = {"weight": 0.3, "temperature": temperature}
    soft = whole(taught, **how) if top_k is None else top(taught, top_k, **how)
    leaves = [hidden, *head.parameters()]
    expected = equations(head, hidden, targets, soft, taught, top_k or VOCAB)
    wanted = torch.autograd.grad(expected, leaves)
    found = head.distill(hidden, targets, soft, most_logits=most_logits)
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.nats, head.loss(hidden, targets).detach(), rtol=1e-12, atol=0)
    mixed = 0.7 * found.nats + 0.3 * temperature**2 * found.divergence
    torch.testing.assert_close(mixed, expected.detach(), rtol=1e-12, atol=0)
    # the factor by which training multiplies
    for gradient, other in zip(torch.autograd.grad(2 * found.loss, leaves), wanted, strict=True):
        torch.testing.assert_close(gradient, 2 * other, rtol=1e-9, atol=1e-12)


def test_the_divergence_grows_with_the_number_of_types_up_to_the_whole() -> None:
    torch.manual_seed(0)
    head = Softmax(HIDDEN, VOCAB).double()
    head.reset_parameters()
    hidden, targets = torch.randn(4, 3, HIDDEN, dtype=torch.float64), torch.randint(VOCAB, (4, 3))
    taught = torch.randn(4, 3, VOCAB, dtype=torch.float64)
    exact = float(head.distill(hidden, targets, whole(taught)).divergence)
    found = [float(head.distill(hidden, targets, top(taught, k)).divergence) for k in (1, 2, 10, 20, VOCAB)]
    assert found == sorted(found)
    assert found[-2] < exact
    assert found[-1] == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("kind", ["softmax", "adaptive", "mixture"])
def test_a_teacher_of_weight_zero_changes_no_bit_of_loss_and_gradients(kind: str) -> None:
    head = Softmax(HIDDEN, VOCAB) if kind == "softmax" else random_head(kind, tied=True)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    hidden = torch.randn(4, 3, HIDDEN, dtype=next(head.parameters()).dtype, requires_grad=True)
    targets = torch.randint(VOCAB, (4, 3))
    taught = torch.randn(4, 3, VOCAB)
    found = head.distill(hidden, targets, top(taught, 3, weight=0.0))
    ours = torch.autograd.grad(found.loss, [hidden, *head.parameters()])
    usual = head.loss(hidden, targets)
    theirs = torch.autograd.grad(usual, [hidden, *head.parameters()])
    assert torch.equal(found.loss, usual)
    assert all(map(torch.equal, ours, theirs))
    assert float(found.divergence) > 0


def test_a_model_that_is_certain_has_finite_losses_in_float32() -> None:
    head = Softmax(1, 3)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([300.0, 0.0, -300.0]))
    taught = torch.tensor([0.0, -300.0, -1e4]).view(1, 1, 3)
    for soft in (whole(taught), top(taught, 1), top(taught, 2), top(taught.flip(-1), 1)):
        hidden = torch.zeros(1, 1, 1, requires_grad=True)
        found = head.distill(hidden, torch.tensor([[2]]), soft)
        found.loss.backward()  # type: ignore[no-untyped-call]
        assert math.isfinite(found.loss.item())
        assert all(torch.isfinite(parameter.grad).all() for parameter in (head.bias, hidden))
