"""The section of the training loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from pydantic import Field, field_validator

from pipeline.config.fields import Section, setting
from pipeline.config.word_numbers import BABYLM_WORDS, WordNumbers
from pipeline.errors import UserError


class Change(Section):
    """Settings that take new values within a run."""

    tokens: int = Field(description="Number of tokens: in force from the first update that begins at or past it.")
    settings: dict[str, Any] = Field(description="Dotted path → value.")


class TrainConfig(Section):
    """Truncated back-propagation through time."""

    bptt: int = setting(
        64,
        "Steps that gradients flow back; the length of a window. If data.layout is documents, the maximum number of "
        "tokens of a document that are trained on.",
        unit="tokens",
        source="Williams & Peng 1990",
        ge=1,
    )
    window_lengths: Literal["fixed", "random"] = setting(
        "fixed",
        "Every window has bptt tokens, or a random length around bptt (one window in twenty: around half of it), with "
        "the learning rate multiplied by length/bptt.",
        source="Merity et al. 2018",
    )
    batch_size: int = setting(32, "Parallel streams, or documents in a window, over all workers.", unit="streams", ge=1)
    reset_state: Literal["never", "document", "windows"] = setting(
        "never",
        "When a stream's hidden state is set to zero, apart from the start of an epoch: before a document's first "
        "token, or every reset_every_windows windows; scoring does the same.",
    )
    reset_every_windows: int = setting(
        1,
        "Windows (of bptt tokens) between two resets if reset_state is windows.",
        unit="windows",
        only_with="train.reset_state=windows",
        ge=1,
    )
    epochs: int = setting(1, "Passes over the training split.", unit="epochs", ge=1)
    epoch_order: Literal["same", "rotated"] = setting(
        "same",
        "Every epoch reads the text in order, or begins each stream at a new random place and goes round it once.",
        source="Press 2019",
    )
    max_steps: int | None = setting(None, "End after this many optimizer steps.", unit="steps", ge=1)
    max_tokens: int | None = setting(None, "End after this many training tokens.", unit="tokens", ge=1)
    max_words: int | None = setting(
        None,
        "End before the update that would go beyond this many words of the training text, each counted every time it "
        "is read. A word is what stands between white space.",
        unit="words",
        source="BabyLM 2026",
        ge=1,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Groups of rows into which a worker's part of a window is divided, computed one after another before one "
        "update: less memory, the same gradient.",
        unit="groups",
        ge=1,
    )
    clip_norm: float | None = setting(
        0.25, "Global norm to which gradients are clipped; null: never.", source="Pascanu et al. 2013", gt=0
    )
    clip_value: float | None = setting(
        None, "Magnitude to which each entry of a gradient is clipped, before the norm is; null: never.", gt=0
    )
    clip_percentile: float | None = setting(
        None,
        "Clip to this percentile of the last clip_history global norms, or to clip_norm if that is smaller; "
        "null: never.",
        unit="%",
        source="Seetharaman et al. 2020",
        gt=0,
        lt=100,
    )
    clip_history: int = setting(
        100,
        "Number of latest global norms that clip_percentile looks at.",
        unit="updates",
        only_with="train.clip_percentile",
        ge=1,
        le=1_000_000,
    )
    activation_penalty: float = setting(
        0.0,
        "Weight of AR, the mean square of the last layer's outputs after dropout, in the trained loss.",
        source="Merity et al. 2018",
        ge=0,
    )
    temporal_activation_penalty: float = setting(
        0.0,
        "Weight of TAR, the mean square of the change of those outputs from step to step, before dropout, in the "
        "trained loss.",
        source="Merity et al. 2018",
        ge=0,
    )
    precision: Literal["float32", "bf16", "fp16", "float64"] = setting(
        "float32", "Autocast type of the forward pass; weights and loss stay float32 (float64: everything, for checks)."
    )
    tf32: bool = setting(
        False, "Let a GPU multiply float32 in TF32 (10 bits of precision): faster; no effect on a CPU."
    )
    embedding_gradients: Literal["auto", "dense", "rows"] = setting(
        "auto",
        "Gradient of the embedding as a whole matrix, or as the rows of the types in the window (plain sgd and untied "
        "weights only); auto: rows if they pay, with at least 8 times as many types as tokens in a step.",
    )
    seed: int = setting(1, "Seed of initialisation, dropout and sampling.", ge=0, lt=2**32)
    log_every_steps: int = setting(20, "Steps between two lines of the metrics file.", unit="steps", ge=1)
    evaluate_every_steps: int | None = setting(
        None,
        "Steps between two validations; null: after every epoch.",
        unit="steps",
        only_with="corpus.valid or corpus.valid_fraction",
        ge=1,
    )
    checkpoint_every_steps: int | None = setting(
        None, "Steps between two checkpoints, in addition to the one after each validation.", unit="steps", ge=1
    )
    checkpoint_every_minutes: float | None = setting(
        10.0,
        "Minutes between two checkpoints, in addition to all others; null: none by the clock.",
        unit="minutes",
        gt=0,
    )
    profile_steps: int = setting(
        0, "Steps of worker 0 whose trace is written to <run>/profile, after a few to warm up.", unit="steps", ge=0
    )
    keep_checkpoints: int = setting(2, "Latest checkpoints kept in addition to the best.", unit="checkpoints", ge=1)
    checkpoint_at_words: WordNumbers = setting(
        [],
        "Further checkpoints, all kept, after the first update that reaches each of these numbers of words read; "
        "babylm: 1 million to 10 million by 1 million, then to 100 million by 10 million.",
        unit="words",
        source="BabyLM 2026",
    )
    max_loss_rise: float | None = setting(
        None,
        "Stop when the training loss is this far above its lowest, before that is saved in a checkpoint; null: never.",
        unit="nats per token",
        gt=0,
    )
    on_bad_window: Literal["stop", "undo"] = setting(
        "stop",
        "What to do about a loss or gradient that is not finite, or rose beyond max_loss_rise: stop, or first undo the "
        "last update and try the window again (checks every window, and keeps two copies of weights and optimizer).",
    )
    initial_weights: str | None = setting(
        None,
        "A run directory (its best checkpoint), checkpoint or model folder of the same shape and tokenizer, whose "
        "weights training starts from; null: random weights.",
    )
    teacher: str | None = setting(
        None,
        "A model of the same tokenizer to learn from besides the text: a run directory (its best checkpoint), "
        "checkpoint or model folder, a folder of stored logits (jobs.teach), or a Hugging Face causal model; null: "
        "none.",
        source="Hinton et al. 2015",
    )
    teacher_weight: float = setting(
        0.5,
        "Share of the divergence from the teacher in the trained loss: (1 − w) · cross-entropy + w · τ² · KL. With 0 "
        "the divergence is only measured.",
        only_with="train.teacher",
        ge=0,
        le=1,
    )
    teacher_temperature: float = setting(
        1.0,
        "τ, by which both models' logits are divided for the divergence.",
        only_with="train.teacher",
        source="Hinton et al. 2015",
        ge=0.01,
        le=100,
    )
    teacher_top_k: int | None = setting(
        None,
        "Number of the teacher's likeliest types that are used, all others together counting as one more outcome; "
        "null: all types, or all that are stored.",
        unit="types",
        only_with="train.teacher",
        ge=1,
    )
    patience: int | None = setting(
        None,
        "End after this many validations without a better perplexity; null: never.",
        unit="validations",
        only_with="corpus.valid or corpus.valid_fraction",
        ge=1,
    )
    evaluate_at_tokens: list[int] = setting(
        [],
        "Further validations, at the first update that reaches each of these numbers of tokens.",
        unit="tokens",
        only_with="corpus.valid or corpus.valid_fraction",
    )
    changes: list[Change] = setting(
        [],
        "Settings that take new values within the run, each {tokens: N, settings: {section.field: value}}: in force "
        "from the first update that begins at or past N tokens (learning rate and schedule, dropouts, weight decay, "
        "clipping, bptt and others).",
        source="Jaderberg et al. 2017",
    )

    @property
    def words_of_checkpoints(self) -> list[int]:
        """The numbers of ``checkpoint_at_words``."""
        return BABYLM_WORDS if isinstance(self.checkpoint_at_words, str) else self.checkpoint_at_words

    @property
    def counts_words(self) -> bool:
        """Whether the words that are read are counted."""
        return self.max_words is not None or bool(self.checkpoint_at_words)

    @field_validator("evaluate_at_tokens")
    @classmethod
    def _above_zero(cls, tokens: list[int]) -> list[int]:
        if any(number < 1 for number in tokens):
            raise UserError(f"must be numbers of tokens of at least 1, not {min(tokens)}")
        return tokens

    @field_validator("changes")
    @classmethod
    def _in_order(cls, changes: list[Change]) -> list[Change]:
        for before, after in pairwise(changes):
            if after.tokens <= before.tokens:
                raise UserError(f"must be in strictly rising order of tokens, not {after.tokens} after {before.tokens}")
        return changes
