"""Small models of every kind with random weights, exported together with the figures that they must reproduce."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import config as configuration
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.data.tokenizer.files import parse
from pipeline.export.hugging_face import export_hugging_face
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.training.checkpoint import Loaded
from tests.data.sentencepiece_models import train

CELLS = ["rnn", "lstm", "gru", "gru_reset_before", "mingru", "minlstm", "qrnn", "slstm"]
HEADS = ["softmax", "adaptive", "mixture"]
TOKENIZERS = ["byte", "char", "word", "bpe", "sentencepiece"]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "It's 3.14, they'd said; naïve cafés  close early.",
    "A line ends\nand the next one begins with a word.",
    "To be, or not to be: that is the question.",
]
DOCUMENTS = [f"{a}\n{b}\n" for a in SENTENCES for b in SENTENCES]
NUM_TOKENS, NUM_PROMPTS, PROMPT_TOKENS, WRITTEN_TOKENS = 60, 200, 5, 12


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    """A tokenizer trained on ``DOCUMENTS``."""
    if kind == "sentencepiece":
        return parse(train(SENTENCES, vocab_size=60), "document")
    settings: dict[str, Any] = {"tokenizer.kind": kind}
    if kind == "bpe":
        settings["tokenizer.vocab_size"] = 300
    config = configuration.with_values(configuration.load(), settings).tokenizer
    return train_tokenizer(config, DOCUMENTS, num_documents=1 if kind == "char" else len(DOCUMENTS))


def make_loaded(tokenizer: Tokenizer, **changes: Any) -> Loaded:
    """A model with ``changes`` to ``model.*`` and random weights, as if it had been trained."""
    values = {"hidden_size": 12, "embedding_size": 10, "num_experts": 3, "adaptive_cutoffs": [9, 20, 25], **changes}
    settings = {f"model.{name}": value for name, value in values.items()}
    config = configuration.with_values(configuration.load(), {"tokenizer.kind": "char", **settings})
    model = LanguageModel(config.model, tokenizer.vocab_size).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.6, 0.6, generator=generator)
    return Loaded(model, tokenizer, config, {}, Path("model"))


def export_with_figures(loaded: Loaded, folder: Path, *, num_prompts: int = NUM_PROMPTS) -> None:
    """Write ``folder``, and beside it ``folder.npz`` for ``read_exports.py``."""
    export_hugging_face(loaded, folder, num_texts=100, license_name="unknown")
    model, tokenizer = loaded.model, loaded.tokenizer
    text = "".join(DOCUMENTS)
    text_ids = tokenizer.encode(text).astype(np.int64)
    prompts = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (num_prompts, PROMPT_TOKENS))
    with evaluating(model):
        tokens = torch.from_numpy(text_ids[:NUM_TOKENS])[:, None]  # (T, 1)
        logits = model.head.logits(model(tokens, model.initial_state(1))[0])[:, 0]  # (T, V)
        shown, state = torch.from_numpy(prompts).t(), model.initial_state(num_prompts)  # (T, P)
        written = []
        for _ in range(WRITTEN_TOKENS):
            hidden, state = model(shown, state)
            shown = model.head.logits(hidden[-1:]).argmax(-1)  # (1, P)
            written.append(shown[0])
    np.savez(
        f"{folder}.npz",
        ids=text_ids[:NUM_TOKENS],
        logits=logits.numpy(),
        prompts=prompts,
        continuations=torch.stack(written, dim=1).numpy(),  # (P, T)
        text=text,
        text_ids=text_ids,
    )


def is_possible(head: str, tokenizer: str) -> bool:
    """Whether they fit: an adaptive softmax needs ids in the order of frequency."""
    return head != "adaptive" or tokenizer in ("char", "word")
