"""How well an n-gram model predicts a text that it was not trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.ngram.model import BEGIN_ID, NGramModel
from pipeline.ngram.text import TrainingText

WORDS_AT_ONCE = 1 << 16


class HeldOutNats(NamedTuple):
    """Sums over a text."""

    nats: float
    words: int  # including ends of sentences
    unknown: int  # how many of them count as <unk>, as the model has it or the text itself


def held_out_nats(model: NGramModel, text: TrainingText) -> HeldOutNats:
    """Sum −ln p of all words and ends of sentences of ``text``; each sentence is read by itself."""
    of_text = np.array([model.id_of.get(word, model.unknown_id) for word in text.words])
    words, is_begin = of_text[text.ids], text.ids == BEGIN_ID
    sentence = np.cumsum(is_begin)
    nats = 0.0
    for start in range(0, len(words), WORDS_AT_ONCE):
        places = np.arange(start, min(start + WORDS_AT_ONCE, len(words)))
        places = places[~is_begin[places]]
        before = places[:, None] + np.arange(1 - model.order, 1)  # (M, order)
        questions = np.where(sentence[before] == sentence[places][:, None], words[before], -1)
        nats -= float(model.log_probabilities(np.where(before >= 0, questions, -1))[0].sum())
    return HeldOutNats(nats, int((~is_begin).sum()), int((words == model.unknown_id).sum()))
