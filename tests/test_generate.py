"""Sampling against the softmax, and text that is the seed's and always whole."""

import numpy as np
import pytest
import torch

from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.generate import Sampling, generate, probabilities, prompt_ids, sample_tokens, text_of
from pipeline.model.language_model import LanguageModel

TEXT = "the cat sat on the mat\nand the dog ran\n"


def make_tokenizer(kind: str) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind=kind), [TEXT * 20], num_documents=2)  # type: ignore[arg-type]


def make_model(vocab_size: int) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=8, num_layers=1), vocab_size)


def test_temperature_top_k_and_top_p() -> None:
    logits = torch.log(torch.tensor([0.5, 0.1, 0.3, 0.1]))
    assert probabilities(logits, Sampling()).tolist() == pytest.approx([0.5, 0.1, 0.3, 0.1])
    assert probabilities(logits, Sampling(temperature=0)).tolist() == [1, 0, 0, 0]
    squared = [0.25, 0.01, 0.09, 0.01]
    assert probabilities(logits, Sampling(temperature=0.5)).tolist() == pytest.approx([p / 0.36 for p in squared])
    assert probabilities(logits, Sampling(top_k=2)).tolist() == pytest.approx([0.625, 0, 0.375, 0])
    assert probabilities(logits, Sampling(top_p=0.6)).tolist() == pytest.approx([0.625, 0, 0.375, 0])
    assert probabilities(logits, Sampling(top_p=0.4)).tolist() == [1, 0, 0, 0]


def test_draws_follow_the_softmax() -> None:
    model = make_model(6).double()
    start = np.array([2])
    with torch.inference_mode():
        hidden, _ = model(torch.tensor([[2]]), model.initial_state(1))
        expected = model.head.logits(hidden)[0, 0].softmax(0).numpy()
    num_draws = 3000
    draws = [
        next(sample_tokens(model, start, num_tokens=1, seed=seed, sampling=Sampling())) for seed in range(num_draws)
    ]
    observed = np.bincount(draws, minlength=6)
    chi_square = ((observed - num_draws * expected) ** 2 / (num_draws * expected)).sum()
    assert chi_square < 20.5  # 5 degrees of freedom, p = 0.001


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe"])
def test_the_text_is_the_seed_s(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    model = make_model(tokenizer.vocab_size)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = ("".join(generate(model, tokenizer, "the", num_tokens=50, seed=seed)) for seed in (1, 1, 2))
    assert one == two != other
    assert torch.equal(torch.get_rng_state(), before)
    one.encode()  # valid text, whatever bytes were drawn


def test_pieces_are_whole_characters() -> None:
    tokenizer = make_tokenizer("byte")
    pieces = list(text_of(tokenizer, iter([*"aé😀".encode(), 0xE2, 0x82])))
    assert pieces == ["a", "é", "😀", "\ufffd"]


def test_words_are_spaced_to_go_on_from_the_prompt() -> None:
    tokenizer = make_tokenizer("word")
    ids = tokenizer.encode("cat sat\nthe")[:-1].tolist()
    assert "".join(text_of(tokenizer, iter(ids), after="the")) == " cat sat\nthe"
    assert "".join(text_of(tokenizer, iter(ids), after="")) == "cat sat\nthe"


def test_prompts() -> None:
    words, characters = make_tokenizer("word"), make_tokenizer("char")
    assert prompt_ids(words, "the cat").tolist() == words.encode("the cat")[:-1].tolist()
    assert prompt_ids(words, "the cat\n").tolist() == words.encode("the cat\n").tolist()
    assert prompt_ids(words, "").tolist() == [words.eos_id]
    with pytest.raises(ValueError, match="none of these characters: 'x' 'ß'"):
        prompt_ids(characters, "the ßox")
    for options in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}):
        with pytest.raises(ValueError, match=r"^--"):
            Sampling(**options)  # type: ignore[arg-type]
