"""Short texts that are documents, and what must hold wherever each of them is read by itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.config import TokenizerConfig
from pipeline.data.scoring import ScoringDocuments
from pipeline.data.streams import ResetRule
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate import HeldOut, evaluate
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows

TEXTS = ["the cat sat", "the cat ran", "a", "two dogs ran"]


def tokenizer_of_texts() -> Tokenizer:
    found = train_tokenizer(TokenizerConfig(kind="char"), ["".join(TEXTS)], num_documents=4)
    assert found.eos == "document"
    return found


def held_out_texts(tokenizer: Tokenizer) -> HeldOut:
    ids = [tokenizer.encode_document(text) for text in TEXTS]
    return HeldOut(ArrayTokens(np.concatenate(ids), np.cumsum([0, *map(len, ids[:-1])])), None)


def check_read_alone(
    model: LanguageModel, tokenizer: Tokenizer, text: HeldOut, expected: Sequence[float], rule: ResetRule, **resets: Any
) -> None:
    """Lines and stimuli have the ``expected`` nats of each token, with any number of streams and window length.

    ``resets``: as ``ScoringDocuments`` takes what ``rule`` means.
    """
    alone = replace(text, begin_id=tokenizer.eos_id)
    for streams in (1, 3):
        score = evaluate(model, alone, streams=streams, bptt=4, reset=rule)
        assert score.nats == pytest.approx(sum(expected), rel=1e-9)
    for length in (1, 2, 5):
        documents = ScoringDocuments(
            text.tokens, num_rows=2, window_length=length, begin_id=tokenizer.eos_id or 0, **resets
        )
        found = sum(float(part.nats.sum()) for part in scored_windows(model, documents.windows()))
        assert found == pytest.approx(sum(expected), rel=1e-9)
    rows = surprisal_rows(model, tokenizer, alone, reset=rule, word_boundary="preceding")
    assert [row.nats for row in rows if row.level == "token"] == pytest.approx(expected, rel=1e-9)
