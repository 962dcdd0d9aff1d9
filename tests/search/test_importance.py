"""What mattered: shares known from how the losses were made, and what is said if they mean nothing."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.search.importance import FANOVA, PED_ANOVA, Importance, importances, losses_at
from pipeline.search.report import Findings
from tests.search.findings import findings

SPACE = {"optimizer.lr": {"loguniform": [1e-4, 1e-1]}, "model.hidden_size": [8, [16, 16], 32]}


def drawn(number: int, loss: Callable[[dict[str, Any]], float], space: dict[str, Any] = SPACE) -> Findings:
    """``number`` random settings: all reach the first rung with this loss, and every third one the end."""
    from pipeline.search.space import random_settings

    empty = findings(space, [], **{"model.num_layers": 2})
    settings = [each for each, _ in zip(random_settings(empty.space, seed=5), range(number), strict=False)]
    rows = [(each, [loss(each)] * (3 if place % 3 == 0 else 1)) for place, each in enumerate(settings)]
    return findings(space, rows, **{"model.num_layers": 2})


def told(found: Findings) -> dict[str, Importance]:
    return {each.evaluator: each for each in importances(found.standing, found.space, found.levels)}


def test_the_only_setting_that_matters_has_most_of_the_importance() -> None:
    for deciding, loss in {
        "optimizer.lr": lambda settings: (np.log10(settings["optimizer.lr"]) + 2.5) ** 2,
        "model.hidden_size": lambda settings: float(settings["model.hidden_size"] == 32),
    }.items():
        for evaluator, each in told(drawn(60, loss)).items():
            assert each.shares[0].path == deciding
            assert each.shares[0].share > (0.8 if evaluator == FANOVA else 0.6)
            assert sum(share.share for share in each.shares) == pytest.approx(1)
            # 20 reached the end, which is enough to compare them there
            assert (each.num_trials, each.tokens, each.warning) == (20, 900, "")


def test_few_trials_are_compared_at_a_rung_that_all_reached_with_a_warning() -> None:
    for each in told(drawn(12, lambda settings: settings["optimizer.lr"])).values():
        assert (each.num_trials, each.tokens) == (12, 100)
        assert each.warning.startswith("it rests on only 12 trials")
        assert each.shares


@pytest.mark.parametrize(
    ("number", "warning"),
    [(3, "it cannot say yet: 3 trials reached 100 tokens, at least 4"), (9, "it cannot say: all")],
)
def test_too_few_trials_or_equal_losses_give_no_importance(number: int, warning: str) -> None:
    for each in told(drawn(number, lambda settings: 1.0)).values():
        assert each.shares == ()
        assert each.warning.startswith(warning)


def test_a_conditional_setting_counts_among_the_trials_that_have_it() -> None:
    space = {
        "model.head": ["softmax", "mixture"],
        "model.num_experts": {"randint": [2, 12], "when": {"model.head": "mixture"}},
        "model.dropout": {"uniform": [0.0, 0.5]},
    }
    found = drawn(90, lambda settings: settings.get("model.num_experts", 20) / 10, space)
    for evaluator, each in told(found).items():
        shares = {share.path: share for share in each.shares}
        assert set(shares) == set(space), evaluator
        assert 5 < shares["model.num_experts"].num_trials < each.num_trials == 30
        assert shares["model.dropout"].num_trials == 30
        assert shares["model.dropout"].share < 0.3


def test_a_lost_trial_counts_with_the_worst_loss() -> None:
    found = findings(
        {"optimizer.lr": [1.0, 2.0]}, [({"optimizer.lr": 1.0}, [3.0]), ({"optimizer.lr": 1.0}, [5.0, 2.0])]
    )
    lost = {"kind": "end", "trial": "003", "status": "lost", "reason": "", "perplexity": None, "tokens": 7}
    found.standing.apply({"kind": "start", "trial": "003", "number": 3, "settings": {"optimizer.lr": 2.0}})
    found.standing.apply(lost)
    trials = list(found.standing.trials.values())
    assert losses_at(trials, 100) == {"001": 3.0, "002": 5.0, "003": 5.0}
    assert losses_at(trials, 300) == {"002": 2.0, "003": 2.0}
    assert losses_at(trials, 900) == {}


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn(9, lambda settings: settings["optimizer.lr"])
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'recurray\[search\]'"):
        told(found)


def test_the_two_evaluators_can_disagree() -> None:
    # one setting spoils the worst half, the other decides among the best
    def loss(settings: dict[str, Any]) -> float:
        bad = settings["optimizer.lr"] > 0.003
        return 100.0 * bad + (settings["model.hidden_size"] != 32) * (not bad)

    found = told(drawn(90, loss))
    assert found[FANOVA].shares[0].path == "optimizer.lr"
    assert found[PED_ANOVA].meaning.startswith("how far the setting decides whether a trial is among the best")
