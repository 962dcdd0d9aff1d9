"""Continuations of held-out prompts, by a model that finds all characters equally likely."""

from types import SimpleNamespace
from typing import Any

import torch

from jobs.evaluate import argument_parser
from jobs.evaluate.continuations import PROMPTS_AT_ONCE, bleu, prompts_of
from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate import HeldOut
from pipeline.model.language_model import LanguageModel
from pipeline.options import AS_IS


def test_equal_prompts_are_continued_differently() -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="char", eos="none"), ["abcdefg "], num_documents=1)
    model: Any = LanguageModel(ModelConfig(hidden_size=4), tokenizer.vocab_size)
    torch.nn.init.zeros_(model.head.weight)
    text = HeldOut(ArrayTokens(tokenizer.encode("a" * 200)), None)
    number = PROMPTS_AT_ONCE + 1  # in two batches
    options = ["--run", "x", "--bleu", str(number), "--prompt-tokens", "2", "--continuation-tokens", "30"]
    loaded: Any = SimpleNamespace(model=model, tokenizer=tokenizer)
    arguments = argument_parser().parse_args(options)
    found = bleu(loaded, arguments, AS_IS, prompts_of(text, arguments))
    # all alike they would have a self-BLEU of 100, and each text's words once in 65
    assert found["variety_of_true_text"]["self_bleu"] > 99.9
    assert found["variety"]["self_bleu"] < 60
    assert found["variety"]["distinct"][2] > 0.9
