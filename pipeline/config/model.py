"""The section of the model."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import field_validator

from pipeline.config.fields import MOST_UNITS, Section, SizeOrSizes, setting
from pipeline.errors import UserError

# of a model that attends, if model.context is null
DEFAULT_CONTEXT = 256
LOCKED = "Gal & Ghahramani 2016; Merity et al. 2018"


class ModelConfig(Section):
    """Embedding, recurrence and head."""

    cell: Literal[
        "rnn", "lstm", "gru", "gru_reset_before", "mingru", "minlstm", "qrnn", "slstm", "transformer"
    ] = setting(
        "lstm",
        "The recurrence: tanh RNN, LSTM, GRU (its reset gate after the recurrent product, as in fused kernels, or "
        "before it, as published), minGRU, minLSTM or QRNN, which train by a parallel scan, or sLSTM, an LSTM with "
        "exponential gates and several heads. Or, in its place, a Transformer, whose state is a cache of keys and "
        "values.",
        source="Elman 1990; Hochreiter & Schmidhuber 1997; Cho et al. 2014; Feng et al. 2024; Bradbury et al. 2017; "
        "Beck et al. 2024; Vaswani et al. 2017; Dai et al. 2019",
    )  # fmt: skip
    qrnn_wide_layers: Literal["first", "all"] = setting(
        "first",
        "Layers of a QRNN that see the previous input as well as the present one.",
        source="first: Merity et al. 2018b; all: Bradbury et al. 2017",
        only_with="model.cell=qrnn",
    )
    num_heads: int = setting(
        4,
        "Heads of an sLSTM, in whose recurrence a unit sees only the units of its own head, or of a Transformer's "
        "attention.",
        unit="heads",
        source="Beck et al. 2024; Vaswani et al. 2017",
        only_with="model.cell=slstm|transformer",
        ge=1,
        le=MOST_UNITS,
    )
    slstm_forget_gate: Literal["sigmoid", "exponential"] = setting(
        "sigmoid",
        "An sLSTM's forget gate: sigmoid, below 1 as in an LSTM, or exponential, any number above 0 like its input "
        "gate, so that earlier input can come to count for more.",
        source="Beck et al. 2024",
        only_with="model.cell=slstm",
    )
    mogrifier_rounds: int = setting(
        0,
        "Rounds in which the input of an LSTM and its hidden vector gate each other before each step; 0: a plain LSTM.",
        unit="rounds",
        source="Melis et al. 2020",
        ge=0,
        le=100,
    )
    mogrifier_rank: int | None = setting(
        None,
        "Rank of the matrices of the Mogrifier's rounds, each then a product of two; null: full matrices.",
        source="Melis et al. 2020",
        ge=1,
        le=MOST_UNITS,
    )
    num_kv_heads: int | None = setting(
        None,
        "Heads of a Transformer's keys and values, a divisor of num_heads: each serves the same number of consecutive "
        "heads, and fewer make a smaller cache; 1: all heads share one; null: as many as num_heads.",
        unit="heads",
        source="Ainslie et al. 2023",
        ge=1,
        le=MOST_UNITS,
    )
    feedforward: Literal["swiglu", "gelu"] = setting(
        "swiglu",
        "A Transformer's feed-forward layers: SwiGLU of width 8/3 hidden_size, or GELU of width 4 hidden_size.",
        source="Shazeer 2020; Hendrycks & Gimpel 2016",
    )
    positions: Literal["rotary", "learned"] = setting(
        "rotary",
        "How a Transformer knows the order of tokens: keys and queries rotated by their positions, or a learned vector "
        "for each place in a block (context: 0), added to the embedding.",
        source="Su et al. 2021; Radford et al. 2019",
    )
    attention: int | None = setting(
        None,
        "Recurrent layer, counted from 1, after which one head of attention looks at its last outputs (as many as "
        "model.context says); null: none.",
        source="Merity 2019",
        ge=1,
        le=1000,
    )
    context: int | None = setting(
        None,
        "Earlier tokens that each token attends to, in each layer of a Transformer or in a recurrence's attention; at "
        "least train.bptt; 0: the text is read in blocks of block_size tokens, each by itself; null: 256.",
        unit="tokens",
        source="Dai et al. 2019",
        ge=0,
        le=MOST_UNITS,
    )
    block_size: int | None = setting(
        None,
        "Tokens in a block of a Transformer if context is 0; at least train.bptt.",
        unit="tokens",
        ge=1,
        le=MOST_UNITS,
    )
    embedding_size: int | None = setting(
        None, "Size of a token's embedding; null: that of the first layer.", unit="units", ge=1, le=MOST_UNITS
    )
    hidden_size: SizeOrSizes = setting(
        256, "Size of each recurrent layer, or a list of sizes, one for each of num_layers.", unit="units"
    )
    last_hidden_size: int | None = setting(
        None,
        "Size of the last layer; null: hidden_size.",
        unit="units",
        source="Merity et al. 2018",
        ge=1,
        le=MOST_UNITS,
    )
    num_layers: int = setting(2, "Recurrent layers.", unit="layers", ge=1, le=1000)
    dropout: float = setting(
        0.0,
        "Dropout on the embedding, between layers and before the head, drawn afresh at every step.",
        source="Zaremba et al. 2014",
        ge=0,
        lt=1,
    )
    input_dropout: float = setting(
        0.0, "Locked dropout on the embedding: one mask for all steps of a window.", source=LOCKED, ge=0, lt=1
    )
    hidden_dropout: float = setting(
        0.0,
        "Locked dropout between layers.",
        source=LOCKED,
        only_with="no model.num_layers=1 or model.cell=transformer",
        ge=0,
        lt=1,
    )
    output_dropout: float = setting(0.0, "Locked dropout before the head.", source=LOCKED, ge=0, lt=1)
    embedding_dropout: float = setting(
        0.0, "Share of the types whose embedding is dropped for a whole window.", source=LOCKED, ge=0, lt=1
    )
    weight_dropout: float = setting(
        0.0,
        "Share of the recurrent weights (QRNN: of all weights of a layer) dropped for a whole window.",
        source="Wan et al. 2013; Merity et al. 2018, 2018b",
        ge=0,
        lt=1,
    )
    layer_norm: bool = setting(
        False,
        "Normalise the input of each recurrent layer and the output of the last.",
        source="Ba et al. 2016; Xiong et al. 2020",
    )
    residual: bool = setting(
        False,
        "Add a recurrent layer's input to its output if both have the same size.",
        source="He et al. 2016; Wu et al. 2016",
    )
    tie_weights: bool = setting(
        False,
        "Use the embedding matrix as the output matrix (with a projection if sizes differ).",
        source="Press & Wolf 2017; Inan et al. 2017",
    )
    head: Literal["softmax", "adaptive", "mixture"] = setting(
        "softmax",
        "What turns hidden vectors into probabilities: a softmax; an adaptive softmax, for vocabularies of 100,000 and "
        "more; a mixture of softmaxes.",
        source="Grave et al. 2017; Yang et al. 2018",
    )
    adaptive_cutoffs: list[int] | None = setting(
        None,
        "First id of each tail of the adaptive softmax, in rising order; null: at 1/100, 1/13 and 2/7 of the "
        "vocabulary.",
        unit="ids",
        source="Merity et al. 2018b",
        only_with="model.head=adaptive",
        min_length=1,
    )
    adaptive_div_value: int = setting(
        4,
        "Factor by which each tail of an untied adaptive softmax is narrower than the one before it.",
        only_with="model.head=adaptive and no model.tie_weights",
        ge=1,
    )
    num_experts: int = setting(
        15,
        "Softmaxes in a mixture.",
        unit="softmaxes",
        source="Yang et al. 2018",
        only_with="model.head=mixture",
        ge=1,
        le=10_000,
    )
    init_range: float | None = setting(
        None,
        "All weights but norms start uniform in ± this; null: head ±1/sqrt(its input's size), "
        "recurrence ±1/sqrt(hidden size), in minGRU, minLSTM and QRNN ±1/sqrt(inputs of a product); a Transformer "
        "normal with deviation 0.02, or 0.02/sqrt(2 num_layers) if a matrix's result is added to a layer's input.",
        gt=0,
    )
    embedding_range: float | None = setting(
        None,
        "Embeddings start uniform in ± this; null: ±init_range, or without it ±0.1 if the head shares them or a "
        "Transformer reads them, else ±1.73, a deviation of 1, with which Adam begins to learn sooner.",
        gt=0,
    )
    input_gain: float | None = setting(
        None,
        "Factor on the initial weights of a recurrent layer's input matrices; null: 3, or 1 with init_range. With 1, "
        "little of a token reaches the second layer, and Adam learns next to nothing at first.",
        only_with="model.cell=rnn|lstm|gru|gru_reset_before|mingru|minlstm|qrnn|slstm",
        gt=0,
    )

    @field_validator("adaptive_cutoffs")
    @classmethod
    def _rising(cls, cutoffs: list[int] | None) -> list[int] | None:
        if cutoffs is not None and any(a >= b for a, b in pairwise([0, *cutoffs])):
            raise UserError(f"must be rising ids of at least 1, not {cutoffs}")
        return cutoffs

    @property
    def layer_sizes(self) -> list[int]:
        """Hidden size of each layer."""
        if isinstance(self.hidden_size, list):
            return self.hidden_size
        return [self.hidden_size] * (self.num_layers - 1) + [self.last_hidden_size or self.hidden_size]

    @property
    def attends(self) -> str:
        """The setting that makes the model attend to the past; empty if it does not."""
        if self.cell == "transformer":
            return "model.cell=transformer"
        return "" if self.attention is None else f"model.attention={self.attention}"

    @property
    def num_slots(self) -> int:
        """Number of earlier tokens that a cache holds."""
        if self.context == 0 and self.block_size is not None:
            return self.block_size
        return DEFAULT_CONTEXT if self.context is None else self.context
