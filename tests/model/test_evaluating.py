"""A model that is used, not trained: no dropout, no gradients unless asked for; afterwards its mode is restored."""

import pytest
import torch

from pipeline.config import ModelConfig
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=8, num_layers=2, dropout=0.5), 11)


def outputs(model: LanguageModel) -> torch.Tensor:
    tokens = torch.arange(10).view(5, 2)
    hidden: torch.Tensor = model(tokens, model.initial_state(2))[0]
    return hidden


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("is_training", [False, True])
def test_mode_dropout_and_gradients(model: LanguageModel, gradients: bool, is_training: bool) -> None:
    model.train(is_training)
    assert torch.equal(outputs(model), outputs(model)) is not is_training  # dropout is drawn anew
    with torch.no_grad(), evaluating(model, gradients=gradients):
        first, second = outputs(model), outputs(model)
    assert torch.equal(first, second)
    assert first.requires_grad is gradients
    assert model.training is is_training
    assert model.recurrence.training is is_training


def test_the_mode_is_restored_after_an_error(model: LanguageModel) -> None:
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.training
    assert torch.is_grad_enabled()
