"""The section of the model."""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import Section, setting

LOCKED = "Gal & Ghahramani 2016; Merity et al. 2018"


class ModelConfig(Section):
    """Embedding, recurrence and head."""

    cell: Literal["rnn", "lstm", "gru"] = setting(
        "lstm",
        "The recurrence: tanh RNN, LSTM or GRU.",
        source="Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014",
    )
    embedding_size: int | None = setting(None, "Size of a token's embedding; null: as hidden_size.", unit="units", ge=1)
    hidden_size: int = setting(256, "Size of each recurrent layer.", unit="units", ge=1)
    last_hidden_size: int | None = setting(
        None, "Size of the last layer; null: as hidden_size.", unit="units", source="Merity et al. 2018", ge=1
    )
    num_layers: int = setting(2, "Recurrent layers.", unit="layers", ge=1)
    dropout: float = setting(
        0.0,
        "Dropout on the embedding, between layers and before the head, drawn anew at every step.",
        source="Zaremba et al. 2014",
        ge=0,
        lt=1,
    )
    input_dropout: float = setting(
        0.0, "Locked dropout on the embedding: one mask for all steps of a window.", source=LOCKED, ge=0, lt=1
    )
    hidden_dropout: float = setting(0.0, "Locked dropout between layers.", source=LOCKED, ge=0, lt=1)
    output_dropout: float = setting(0.0, "Locked dropout before the head.", source=LOCKED, ge=0, lt=1)
    embedding_dropout: float = setting(
        0.0, "Share of the types whose embedding is dropped for a whole window.", source=LOCKED, ge=0, lt=1
    )
    weight_dropout: float = setting(
        0.0,
        "Share of the recurrent weights dropped for a whole window.",
        source="Wan et al. 2013; Merity et al. 2018",
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

    @property
    def layer_sizes(self) -> list[int]:
        """Hidden size of each layer."""
        return [self.hidden_size] * (self.num_layers - 1) + [self.last_hidden_size or self.hidden_size]
