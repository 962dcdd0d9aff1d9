"""The section of the model."""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import Section, setting


class ModelConfig(Section):
    """Embedding, recurrence and head."""

    cell: Literal["rnn", "lstm", "gru"] = setting(
        "lstm",
        "The recurrence: tanh RNN, LSTM or GRU.",
        source="Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014",
    )
    embedding_size: int | None = setting(None, "Size of a token's embedding; null: as hidden_size.", unit="units", ge=1)
    hidden_size: int = setting(256, "Size of each recurrent layer.", unit="units", ge=1)
    num_layers: int = setting(2, "Recurrent layers.", unit="layers", ge=1)
    dropout: float = setting(
        0.0,
        "Dropout on the embedding, between layers and before the head.",
        source="Zaremba et al. 2014",
        ge=0,
        lt=1,
    )
    tie_weights: bool = setting(
        False,
        "Use the embedding matrix as the output matrix (with a projection where sizes differ).",
        source="Press & Wolf 2017; Inan et al. 2017",
    )
    init_range: float | None = setting(
        None, "All weights start uniform in ± this; null: embeddings ±0.1, recurrence and head ±1/sqrt(size).", gt=0
    )
