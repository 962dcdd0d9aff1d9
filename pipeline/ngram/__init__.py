"""The n-gram baseline for recurrent models: interpolated modified Kneser-Ney, trained on the same text.

training tokens → sentences of words (``text``) → counted n-grams (``counting``) → probabilities (``kneser_ney``) →
``NGramModel``, which returns ln p of a word given the words before it (``model``); written and read as a file
(``arpa``)
"""

from pipeline.ngram.arpa import read_arpa, write_arpa
from pipeline.ngram.held_out import held_out_nats
from pipeline.ngram.kneser_ney import MOST_WORDS, train_ngram
from pipeline.ngram.model import BEGIN, END, UNKNOWN, NGramModel
from pipeline.ngram.text import TrainingText, training_text, unknown_in

__all__ = [
    "BEGIN",
    "END",
    "MOST_WORDS",
    "UNKNOWN",
    "NGramModel",
    "TrainingText",
    "held_out_nats",
    "read_arpa",
    "train_ngram",
    "training_text",
    "unknown_in",
    "write_arpa",
]
