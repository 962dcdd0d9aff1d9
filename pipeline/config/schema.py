"""The whole schema, and the rules between its sections."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from pipeline.config.cluster import ClusterConfig
from pipeline.config.compare import CompareConfig
from pipeline.config.data import CorpusConfig, DataConfig, TokenizerConfig
from pipeline.config.ddp import DdpConfig
from pipeline.config.fields import Section, no_blank, shown
from pipeline.config.model import ModelConfig
from pipeline.config.model_checks import check_context, check_model
from pipeline.config.optimizer import OptimizerConfig, PruneConfig
from pipeline.config.running import EvaluateConfig, RunConfig
from pipeline.config.search import SearchConfig
from pipeline.config.training import TrainConfig
from pipeline.config.word_numbers import BABYLM, BABYLM_EPOCHS
from pipeline.errors import UserError


class Config(Section):
    """A whole resolved configuration; see each section."""

    corpus: CorpusConfig = Field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    ddp: DdpConfig = Field(default_factory=DdpConfig)
    prune: PruneConfig = Field(default_factory=PruneConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    run: RunConfig = Field(default_factory=RunConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    search: SearchConfig = Field(default_factory=SearchConfig)
    compare: CompareConfig = Field(default_factory=CompareConfig)

    @model_validator(mode="before")
    @classmethod
    def _all_sections(cls, values: Any) -> Any:
        """Add an empty section for each that is left out, so that one validator makes them all."""
        return {**dict.fromkeys(cls.model_fields), **values} if isinstance(values, dict) else values

    @field_validator("*", mode="before")
    @classmethod
    def _as_section(cls, value: Any) -> Any:
        """Turn an empty section into one of defaults. Raises ``UserError`` for anything that is not a section."""
        if value is None:
            return {}
        if isinstance(value, (dict, Section)):
            return value
        if isinstance(value, str) and ":" in value:
            raise UserError(no_blank(value))
        raise UserError(f"must be a section of settings, not {shown(value)}")

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        check_model(self.model)
        check_context(self.model, self.train.bptt)
        if self.prune.begin_fraction > self.prune.end_fraction:
            raise UserError(
                f"prune.begin_fraction: {self.prune.begin_fraction} is after "
                f"prune.end_fraction={self.prune.end_fraction}"
            )
        workers = self.cluster.num_workers
        if workers != "auto" and workers > self.train.batch_size:
            raise UserError(
                f"cluster.num_workers: {shown(workers)} workers need at least as many streams, "
                f"but train.batch_size is {self.train.batch_size}"
            )
        if self.train.gradient_accumulation_steps > 1:
            check_accumulation(self.train, 1 if workers == "auto" else workers)
        if self.train.checkpoint_at_words == BABYLM and self.train.epochs > BABYLM_EPOCHS:
            raise UserError(
                f"train.epochs: BabyLM lets a model read its text {BABYLM_EPOCHS} times at most, not "
                f"{shown(self.train.epochs)} (train.checkpoint_at_words=babylm; a list of numbers has no such rule)"
            )
        check_gradients(self)
        least = self.cluster.min_workers
        if least is not None and workers != "auto" and least > workers:
            raise UserError(f"cluster.min_workers: {shown(least)} is more than cluster.num_workers={shown(workers)}")
        if workers != "auto" and workers > 1 and self.cluster.backend == "local":
            raise UserError(f"cluster.num_workers: cluster.backend=local runs exactly 1 worker, not {shown(workers)}")
        if not self.corpus.valid and not self.corpus.valid_fraction:
            for name, value in (("schedule", "plateau"), ("average", "nonmonotonic")):
                if getattr(self.optimizer, name) == value:
                    raise UserError(
                        f"optimizer.{name}: {value} depends on validation, but corpus.valid is empty and "
                        "corpus.valid_fraction is 0"
                    )
        if self.model.head == "adaptive" and not self.tokenizer.path and self.tokenizer.kind not in ("word", "char"):
            raise UserError(
                "model.head: adaptive needs ids in order of frequency, as tokenizer.kind=word and char assign them, "
                f"not {self.tokenizer.kind}"
            )
        if self.data.layout == "documents":
            check_documents(self.train, self.tokenizer)
        if self.corpus.valid_fraction + self.corpus.test_fraction >= 1:
            raise UserError(
                "corpus.valid_fraction: valid_fraction + test_fraction must leave something to train on, "
                f"not {self.corpus.valid_fraction} + {self.corpus.test_fraction}"
            )
        shortest, longest = self.corpus.min_characters, self.corpus.max_characters
        if shortest is not None and longest is not None and shortest > longest:
            raise UserError(f"corpus.min_characters: {shortest:,} is more than corpus.max_characters={longest:,}")
        return self


def check_gradients(config: Config) -> None:
    """Raise ``UserError`` if gradients cannot be computed or averaged as the settings say."""
    if config.train.embedding_gradients == "rows" and not rows_are_exact(config):
        raise UserError(
            "train.embedding_gradients: rows need optimizer.name=sgd without momentum and weight_decay, and "
            "model.tie_weights=false: everything else changes every row at every step"
        )
    if config.ddp.communication == "powersgd":
        for name, value in (("precision", "fp16"), ("on_bad_window", "undo")):
            if getattr(config.train, name) == value:
                raise UserError(
                    f"ddp.communication: powersgd remembers what it left out of each gradient, which does not work "
                    f"with train.{name}={value}"
                )


def rows_are_exact(config: Config) -> bool:
    """Whether an update changes only those rows of the embedding whose types occur in the window."""
    optimizer = config.optimizer
    is_plain = optimizer.name == "sgd" and optimizer.momentum == 0 and optimizer.weight_decay == 0
    return is_plain and not config.model.tie_weights


def check_accumulation(train: TrainConfig, num_workers: int) -> None:
    """Raise ``UserError`` unless each of ``num_workers`` workers has a row for each group."""
    num_groups = train.gradient_accumulation_steps
    if num_groups * num_workers > train.batch_size:
        raise UserError(
            f"train.gradient_accumulation_steps: {shown(num_groups)} row groups on each of {num_workers} workers need "
            f"at least as many streams, but train.batch_size is {train.batch_size}"
        )


def check_documents(train: TrainConfig, tokenizer: TokenizerConfig) -> None:
    """Raise ``UserError`` for settings of streams if ``data.layout`` is documents."""
    default = TrainConfig()
    for name in (
        "window_lengths",
        "reset_state",
        "epoch_order",
        "activation_penalty",
        "temporal_activation_penalty",
    ):
        value = getattr(train, name)
        if value != getattr(default, name):
            raise UserError(
                f"train.{name}: {value} is for streams; with data.layout=documents leave it at {getattr(default, name)}"
            )
    ends_lines = tokenizer.eos == "auto" and tokenizer.kind == "word" and tokenizer.path is None
    if tokenizer.eos in ("line", "none") or ends_lines:
        raise UserError(
            "tokenizer.eos: with data.layout=documents <eos> begins and ends each document; set document, not "
            + ("auto, which is line for words" if ends_lines else tokenizer.eos)
        )
