"""Cache and dynamic evaluation against plain versions of their equations, one token at a time in float64."""

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from jobs.evaluate.adaptation import Adaptation
from pipeline import launch
from pipeline.config import Config, ModelConfig
from pipeline.data.scoring import ScoringStreams
from pipeline.data.shards import open_prepared
from pipeline.data.streams import ResetRule
from pipeline.data.windows import ArrayTokens, Window
from pipeline.evaluate import scored_windows, total
from pipeline.evaluate.cache import Memory, tune_cache, with_cache
from pipeline.evaluate.dynamic import follow, gradient_rms, tune_dynamic
from pipeline.model.language_model import LanguageModel
from pipeline.options import CacheSettings, DynamicSettings
from pipeline.scoring import Scored
from pipeline.training import checkpoint

VOCAB = 7
IDS = np.random.default_rng(1).integers(0, VOCAB, 90).astype(np.uint16)


@pytest.fixture
def model() -> LanguageModel:
    return model_of(tie_weights=True)


def model_of(*, tie_weights: bool) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(hidden_size=6, num_layers=2, dropout=0.5, tie_weights=tie_weights)
    model = LanguageModel(config, VOCAB).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def plain_cache(model: LanguageModel, settings: CacheSettings, starts: list[int]) -> float:
    state, nats = model.initial_state(1), 0.0
    pairs: list[tuple[torch.Tensor, int]] = []
    for place, (current, following) in enumerate(itertools.pairwise(IDS.tolist())):
        if place in starts:
            state, pairs = model.initial_state(1), []
        with torch.no_grad():
            hidden, state = model(torch.tensor([[current]]), state)
        h = hidden[0, 0]
        p = model.head.logits(h).softmax(0)[following].item()
        similar = [settings.theta * float(h @ past) for past, _ in pairs[-settings.window :]]
        most = max(similar, default=0.0)
        recent = [(math.exp(s - most), token) for s, (_, token) in zip(similar, pairs[-settings.window :], strict=True)]
        if recent:
            cached = sum(w for w, token in recent if token == following) / sum(w for w, _ in recent)
            p = (1 - settings.weight) * p + settings.weight * cached
        nats -= math.log(p)
        pairs.append((h, following))
    return nats


@pytest.mark.parametrize("window", [1, 9, 500])
@pytest.mark.parametrize("starts", [[], [0, 13, 14, 60]])
def test_cache(model: LanguageModel, window: int, starts: list[int]) -> None:
    settings = CacheSettings(theta=0.7, weight=0.3, window=window)
    tokens = ArrayTokens(IDS, np.array(starts) if starts else None)
    rule = ResetRule(at_documents=bool(starts))
    parts = ScoringStreams(tokens, num_streams=1, bptt=8, reset=rule)
    nats, count = total(with_cache(scored_windows(model, parts.windows()), settings, is_by_document=bool(starts)))
    assert count == 89
    assert nats == pytest.approx(plain_cache(model, settings, starts), rel=1e-10)


def test_the_cache_does_not_depend_on_the_size_of_its_parts(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any number of places looked at at once, and any θ: with 0 every place counts the same."""
    parts = ScoringStreams(ArrayTokens(IDS), num_streams=1, bptt=40)
    for theta, similarities in ((0.0, 20), (0.7, 100), (1000.0, 7)):
        monkeypatch.setattr("pipeline.evaluate.cache.MOST_SIMILARITIES", similarities)
        settings = CacheSettings(theta, weight=0.3, window=17)
        nats, _ = total(with_cache(scored_windows(model, parts.windows()), settings))
        assert nats == pytest.approx(plain_cache(model, settings, []), rel=1e-10)


def test_the_cache_when_a_share_underflows(model: LanguageModel) -> None:
    """The place with the same token differs so much from the present one that its share underflows in float32."""
    hidden = torch.tensor([[1.0], [-1.0], [1.0]])[:, None]  # (T, 1, H)
    targets = np.array([[4], [5], [5]])
    window = Window(targets, targets, position=0, next_position=3, begins=True)
    found, is_empty = Memory([1000.0], [1, 2]).log_probabilities(
        Scored(window, hidden, torch.zeros(3, 1)), is_by_document=False
    )
    assert is_empty.tolist() == [True, False, False]
    # among the last place alone its share is 1; among both it is e^−1000 against e^1000
    assert found[0, :, 2].tolist() == [0.0, -2000.0]
    assert found[0, :, 1].tolist() == [-math.inf, -math.inf]


def test_tuned_cache_is_the_best_of_the_grid(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, values in (("THETAS", (0.1, 0.9)), ("WEIGHTS", (0.05, 0.4)), ("WINDOWS", (3, 40))):
        monkeypatch.setattr(f"pipeline.evaluate.cache.{name}", values)
    parts = ScoringStreams(ArrayTokens(IDS), num_streams=1, bptt=13)
    grid = [CacheSettings(*values) for values in itertools.product((0.1, 0.9), (0.05, 0.4), (3, 40))]
    assert tune_cache(scored_windows(model, parts.windows())) == min(
        grid, key=lambda values: plain_cache(model, values, [])
    )


def plain_dynamic(model: LanguageModel, settings: DynamicSettings, rms: list[torch.Tensor] | None) -> float:
    model = copy.deepcopy(model)
    parameters = list(model.parameters())
    trained = [p.detach().clone() for p in parameters]
    state, nats = model.initial_state(1), 0.0
    mean_rms = sum(float(part.mean()) for part in rms) / len(rms) if rms else 1.0
    for start in range(0, len(IDS) - 1, settings.segment):
        losses = []
        for place in range(start, min(start + settings.segment, len(IDS) - 1)):
            hidden, state = model(torch.tensor([[int(IDS[place])]]), state)
            losses.append(-model.head.logits(hidden)[0, 0].log_softmax(0)[int(IDS[place + 1])])
        loss = torch.stack(losses)
        nats += loss.sum().item()
        gradients = torch.autograd.grad(loss.mean(), parameters)
        state = tuple(part.detach() for part in state)
        with torch.no_grad():
            for i, (p, g, t) in enumerate(zip(parameters, gradients, trained, strict=True)):
                step, back = g, settings.decay * (t - p)
                if rms:
                    step = g / (rms[i] + settings.epsilon)
                    back = (t - p) * (settings.decay * rms[i] / mean_rms).clamp(max=1)
                p += back - settings.lr * step
    return nats


@pytest.mark.parametrize("tie_weights", [True, False])
@pytest.mark.parametrize(("rule", "decay"), [("rms", 0.05), ("rms", 0.9), ("sgd", 0.05)])  # 0.9 · RMS / mean is above 1
def test_dynamic_evaluation(rule: str, decay: float, tie_weights: bool) -> None:
    model = model_of(tie_weights=tie_weights)
    before = [parameter.clone() for parameter in model.parameters()]
    # a row of the embedding that is not read for some segments still decays towards its trained value
    settings = DynamicSettings(rule=rule, lr=0.01 if rule == "rms" else 0.3, decay=decay, segment=3)
    training = ScoringStreams(ArrayTokens(IDS[::-1].copy()), num_streams=3, bptt=3)
    rms = gradient_rms(model, training) if rule == "rms" else None
    parts = ScoringStreams(ArrayTokens(IDS), num_streams=1, bptt=3)
    nats, count = total(follow(model, parts, settings, rms))
    still = total(scored_windows(model, parts.windows()))[0]
    assert count == 89
    assert nats == pytest.approx(plain_dynamic(model, settings, rms), rel=1e-9)
    assert abs(nats - still) > 1e-3
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("tie_weights", [True, False])
def test_root_mean_square_of_gradients(tie_weights: bool) -> None:
    model = model_of(tie_weights=tie_weights)
    windows = list(ScoringStreams(ArrayTokens(IDS[:13]), num_streams=1, bptt=6).windows())  # two windows
    state, parameters = model.initial_state(1), list(model.parameters())
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    for window in windows:
        hidden, state = model(torch.from_numpy(window.inputs), tuple(part.detach() for part in state))
        logits = model.head.logits(hidden).view(-1, VOCAB)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(window.targets).reshape(-1))
        for total_squares, gradient in zip(squares, torch.autograd.grad(loss, parameters), strict=True):
            total_squares += gradient**2 / 2
    rms = gradient_rms(model, ScoringStreams(ArrayTokens(IDS[:13]), num_streams=1, bptt=6))
    torch.testing.assert_close(rms, [part.sqrt() for part in squares])


def test_tuning_takes_the_best_rate_then_epsilon_then_decay() -> None:
    def far_from(lr: float, epsilon: float, decay: float) -> Callable[[DynamicSettings], float]:
        return lambda s: (
            abs(math.log(s.lr / s.epsilon / lr * epsilon)) + abs(s.epsilon - epsilon) + abs(s.decay - decay)
        )

    found = tune_dynamic(far_from(3e-3, 3e-3, 5e-3), DynamicSettings(segment=3))
    assert found == DynamicSettings("rms", lr=found.lr, epsilon=3e-3, decay=5e-3, segment=3)
    assert found.lr == pytest.approx(3e-3)
    start = DynamicSettings.of("sgd")
    assert tune_dynamic(far_from(0.3, start.epsilon, 0.0), start) == DynamicSettings.of("sgd", lr=0.3, decay=0.0)

    def without_decay_it_overflows(settings: DynamicSettings) -> float:
        return settings.decay if settings.decay else math.nan

    assert tune_dynamic(without_decay_it_overflows, start).decay == 1e-3


def test_each_rule_has_its_own_default_settings() -> None:
    assert DynamicSettings.of("rms", lr=None) == DynamicSettings("rms", 2e-3, 0.02, 1e-3, 20)
    assert DynamicSettings.of("sgd", segment=5) == DynamicSettings("sgd", 0.1, 1e-3, 1e-3, 5)
    with pytest.raises(ValueError, match=r"^dynamic_epsilon: 0 is not in"):
        DynamicSettings.of("rms", epsilon=0)


def test_gradients_of_the_training_text_are_measured_with_its_resets(make_config: Callable[..., Config]) -> None:
    config = make_config({"train.reset_state": "windows", "train.max_steps": 3})
    launch.train(config, launch.in_process)
    adapted = Adaptation(checkpoint.load_model(str(config.run.directory)), None, DynamicSettings())
    adapted.measure_rms()
    tokens = open_prepared(config.data.directory).splits["train"]
    parts = ScoringStreams(tokens, num_streams=6, bptt=20, reset=ResetRule(every_tokens=10))
    assert adapted.rms is not None
    for found, expected in zip(adapted.rms, gradient_rms(adapted.loaded.model, parts), strict=True):
        torch.testing.assert_close(found, expected)
