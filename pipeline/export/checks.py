"""Checks that transformers reads from an exported folder what was written there."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.data.tokenizer import Ids, Tokenizer
from pipeline.errors import UserError
from pipeline.generate.text import ids_of_prompt
from pipeline.model.ends import read
from pipeline.model.evaluating import evaluating
from pipeline.offline import offline
from pipeline.training.checkpoint import Loaded

# for float32 logits; those of one model, summed in two different orders, differ by a few millionths
TOLERANCE = 1e-4


def check_tokenizer(tokenizer: Tokenizer, folder: Path, texts: list[str]) -> None:
    """Raise ``UserError`` unless the exported tokenizer gives our ids for each of ``texts``."""
    with offline() as transformers:
        how = {"trust_remote_code": True, "split_special_tokens": True}
        theirs = transformers.AutoTokenizer.from_pretrained(folder, **how)
        found = theirs(texts)["input_ids"]  # the usual call, which must not put types around a text either
    for text, ids in zip(texts, found, strict=True):
        if ids != ids_of_prompt(tokenizer, text).tolist():
            raise UserError(
                f"the exported tokenizer gives different ids for {text[:40]!r} than ours; nothing was written",
                argument="format",
            )


def check_logits(loaded: Loaded, folder: Path, ids: Ids) -> None:
    """Raise ``UserError`` unless the exported model gives our logits after each of ``ids``, (T,)."""
    tokens = torch.from_numpy(ids).unsqueeze(1)  # (T, 1)
    model = loaded.model
    with evaluating(model):
        hidden, _ = read(model, tokens, model.initial_state(1))
        ours = model.head.logits(hidden)[:, 0]  # (T, V)
    with offline() as transformers, torch.no_grad():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        found = theirs(tokens.t(), use_cache=False).logits[0]
    difference = float((ours - found).abs().max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the exported model's logits differ from the model's by {difference:.2g}, more than {TOLERANCE:g}; "
            "nothing was written",
            argument="format",
        )
