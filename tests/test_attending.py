"""Which uses refuse models that attend to the past, in a sentence, and which treat them like all others."""

from typing import Any

import pytest
import torch

from pipeline.compress.onnx_export import export
from pipeline.compress.units import check_removable
from pipeline.data.windows import ArrayTokens
from pipeline.errors import UserError
from pipeline.evaluate.next_words import NextWords
from pipeline.export.hugging_face import export_hugging_face
from pipeline.generate import beam_search
from pipeline.gradient_flow import measure
from pipeline.interface import Model
from pipeline.training.checkpoint import Loaded
from pipeline.training.utilization import flops_per_token
from tests.export.exports import make_loaded, tokenizer_of

MODELS: dict[str, dict[str, Any]] = {
    "model.cell=transformer": {
        "cell": "transformer",
        "hidden_size": 16,
        "embedding_size": 16,
        "num_heads": 2,
        "context": 2000,
    },
    "model.attention=2": {"attention": 2, "context": 6000},
}


@pytest.fixture(params=MODELS)
def attending(request: pytest.FixtureRequest) -> tuple[str, Loaded]:
    return request.param, make_loaded(tokenizer_of("bpe"), **MODELS[request.param])


def test_refusals_of_attending_models_name_the_setting(attending: tuple[str, Loaded], tmp_path: Any) -> None:
    setting, loaded = attending
    ids = torch.zeros(100, dtype=torch.int64).numpy()
    refused: dict[str, Any] = {
        "format: the ONNX files": lambda: export(loaded.model, ids),
        "format: the modeling file": lambda: export_hugging_face(
            loaded, tmp_path / "hf", num_texts=1, license_name="mit"
        ),
        "units: units cannot be removed from a model that attends": lambda: check_removable(
            loaded.config, loaded.model
        ),
        "run: gradients are followed": lambda: measure(loaded.model, ArrayTokens(ids), length=4, num_streams=2),
        "word-entropy: each of thousands": lambda: NextWords(loaded.model, loaded.tokenizer),
    }
    for begin, call in refused.items():
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(begin)
        assert setting in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_text_read_in_two_parts_is_scored_as_in_one(attending: tuple[str, Loaded]) -> None:
    model = Model(attending[1])
    whole = model.surprisal("The quick brown fox jumps over the lazy dog")[0]
    first = model.read("The quick brown")
    rest = model.surprisal(" fox jumps over the lazy dog")[0]
    assert rest.nats == pytest.approx(whole.nats[-len(rest.nats) :], abs=1e-4)
    assert model.state is first


@pytest.mark.parametrize("name", MODELS)
def test_a_full_beam_finds_the_likeliest_text(name: str) -> None:
    """Beam search with as many beams as types, against every text of two tokens."""
    model = make_loaded(tokenizer_of("char"), **{**MODELS[name], "context": 64}).model.double()
    prompt = torch.tensor([3, 1, 4, 1, 5]).numpy()
    found = beam_search(model, prompt, num_tokens=2, num_beams=model.embedding.num_embeddings)
    with torch.no_grad():
        state = model.initial_state(1)
        hidden, state = model(torch.from_numpy(prompt).unsqueeze(1), state)
        first = model.head.logits(hidden[-1]).log_softmax(-1)[0]  # (V,)
        num_types = len(first)
        many = tuple(part.expand(-1, num_types, -1).contiguous() for part in state)
        hidden, _ = model(torch.arange(num_types).unsqueeze(0), many)
        both = first.unsqueeze(1) + model.head.logits(hidden[0]).log_softmax(-1)  # (V, V)
    assert found.log_probability == pytest.approx(float(both.max()), rel=1e-9)
    assert found.tokens == tuple(divmod(int(both.argmax()), num_types))


def test_attention_counts_among_the_flops() -> None:
    """FLOPs count each matrix once, and every key and value that a token attends to."""
    loaded = make_loaded(
        tokenizer_of("char"), cell="transformer", hidden_size=16, embedding_size=16, num_heads=2, context=64
    )
    types = loaded.model.embedding.num_embeddings
    wide = 43  # 8/3 · 16, rounded up
    matrices = len(loaded.model.recurrence.layers) * (16 * 48 + 16 * 16 + 3 * 16 * wide)
    attended = len(loaded.model.recurrence.layers) * 2 * 16 * 64
    assert flops_per_token(loaded.model) == 6 * (matrices + attended + types * 16)
