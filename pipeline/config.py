"""The whole configuration: one schema, one merge, one validator.

defaults < YAML file < ``section.field=value`` on the command line < a search sample

``load`` turns those layers into one frozen ``Config``, or raises one ``ValueError`` that lists every
mistake by its dotted path. Each module downstream receives only its own section. Neither torch nor Ray
is imported here, so ``--help`` and every complaint about a setting come at once.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator


def setting(default: Any, doc: str, *, unit: str = "", source: str = "", **constraints: Any) -> Any:
    """A documented field: ``doc`` in one sentence, its ``unit`` and the ``source`` (paper) if it has one."""
    extra: dict[str, Any] = {"unit": unit, "source": source}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default.copy(), description=doc, json_schema_extra=extra, **constraints)
    return Field(default=default, description=doc, json_schema_extra=extra, **constraints)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _count_or_auto(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"must be a whole number of at least 1, or auto, not {value!r}")


CountOrAuto = Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)]
Paths = Annotated[list[str], BeforeValidator(_as_list)]


class Section(BaseModel):
    """Base of every section: immutable, and an unknown setting is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class CorpusConfig(Section):
    """Where the text comes from and how it is split."""

    train: Paths = setting(
        ["builtin:python-docs"],
        "Training text: files, globs, directories, builtin:python-docs or builtin:python-stdlib.",
        min_length=1,
    )
    valid: Paths = setting([], "Validation text; empty: a part of the training text (valid_fraction).")
    test: Paths = setting([], "Test text; empty: a part of the training text (test_fraction).")
    valid_fraction: float = setting(
        0.05, "Share of the training text held out for validation where corpus.valid is empty.", ge=0, lt=1
    )
    test_fraction: float = setting(
        0.0, "Share of the training text held out for test where corpus.test is empty.", ge=0, lt=1
    )
    split_by: Literal["auto", "document", "fraction"] = setting(
        "auto",
        "How fractions are held out: whole documents (files) by hash of their name, or the tail of the text in "
        "order; auto: documents if there are at least 20, else fraction.",
    )


class TokenizerConfig(Section):
    """How text becomes token ids."""

    kind: Literal["byte", "char", "word", "bpe"] = setting("bpe", "The unit of text that one token stands for.")
    vocab_size: int | None = setting(
        None, "Most types kept, special tokens included; null: all of them (bpe: 8192).", unit="types", ge=2
    )
    min_count: int = setting(1, "Words or characters seen less often in training become <unk>.", unit="times", ge=1)
    eos: Literal["auto", "line", "document", "none"] = setting(
        "auto", "Where <eos> stands: after every line, every document or nowhere; auto: line for words, else document."
    )


class DataConfig(Section):
    """The prepared corpus: Arrow shards of token ids."""

    directory: str | None = setting(
        None, "Where the shards lie; null: data/<config name>-<hash of the corpus and tokenizer settings>."
    )
    shard_tokens: int = setting(16_777_216, "Target size of a shard.", unit="tokens", ge=1024)


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


class TrainConfig(Section):
    """Truncated back-propagation through time."""

    bptt: int = setting(
        64,
        "Steps that gradients flow back; the length of a window.",
        unit="tokens",
        source="Williams & Peng 1990",
        ge=1,
    )
    batch_size: int = setting(32, "Parallel streams over all workers.", unit="streams", ge=1)
    epochs: int = setting(1, "Passes over the training split.", unit="epochs", ge=1)
    max_steps: int | None = setting(None, "End after so many optimizer steps.", unit="steps", ge=1)
    max_tokens: int | None = setting(None, "End after so many training tokens.", unit="tokens", ge=1)
    clip_norm: float | None = setting(
        0.25, "Global norm to which gradients are clipped; null: never.", source="Pascanu et al. 2013", gt=0
    )
    precision: Literal["float32", "bf16", "fp16", "float64"] = setting(
        "float32", "Autocast type of the forward pass; weights and loss stay float32 (float64: everything, for checks)."
    )
    seed: int = setting(1, "Seed of initialisation, dropout and sampling.", ge=0, lt=2**32)
    log_every_steps: int = setting(20, "Steps between two lines of the metrics file.", unit="steps", ge=1)
    evaluate_every_steps: int | None = setting(
        None, "Steps between two validations; null: after every epoch.", unit="steps", ge=1
    )
    checkpoint_every_steps: int | None = setting(
        None, "Steps between two checkpoints, beside the one after each validation.", unit="steps", ge=1
    )
    keep_checkpoints: int = setting(2, "Latest checkpoints kept beside the best.", unit="checkpoints", ge=1)
    patience: int | None = setting(
        None, "End after so many validations without a better perplexity; null: never.", unit="validations", ge=1
    )


class OptimizerConfig(Section):
    """The optimizer and its learning-rate schedule."""

    name: Literal["sgd", "adamw"] = setting("adamw", "The optimizer.", source="Loshchilov & Hutter 2019")
    lr: float = setting(2e-3, "Learning rate at the schedule's peak.", gt=0)
    momentum: float = setting(0.0, "Momentum of sgd.", ge=0, lt=1)
    beta1: float = setting(0.9, "Decay of AdamW's first moment.", ge=0, lt=1)
    beta2: float = setting(0.999, "Decay of AdamW's second moment.", ge=0, lt=1)
    eps: float = setting(1e-8, "AdamW's term against division by zero.", gt=0)
    weight_decay: float = setting(0.0, "Weight decay (decoupled for adamw); never on biases.", ge=0)
    schedule: Literal["constant", "step", "cosine", "1cycle"] = setting(
        "cosine",
        "Learning rate over the run: constant, a factor per epoch after decay_after_epochs, a half cosine to "
        "final_lr_ratio, or up and down once.",
        source="Loshchilov & Hutter 2017; Smith 2018",
    )
    warmup_steps: int = setting(0, "Steps of linear warm-up from 0 (not for 1cycle).", unit="steps", ge=0)
    decay_after_epochs: int = setting(4, "Epochs at full rate before step decay begins.", unit="epochs", ge=0)
    decay_factor: float = setting(0.5, "Factor per epoch of step decay.", gt=0, le=1)
    final_lr_ratio: float = setting(0.0, "Last learning rate of cosine and 1cycle over lr.", ge=0, le=1)
    peak_fraction: float = setting(0.3, "Share of a 1cycle run that the rate rises.", gt=0, lt=1)


class EvaluateConfig(Section):
    """Held-out perplexity."""

    streams: int = setting(
        16, "Streams over which held-out text is scored, whatever the number of workers.", unit="streams", ge=1
    )


class RunConfig(Section):
    """Where a run lives and what it shows."""

    directory: str | None = setting(None, "Checkpoints, metrics and TensorBoard files; null: runs/<config name>.")
    sample_tokens: int = setting(
        200, "Tokens of sample text written after each validation; 0: none.", unit="tokens", ge=0
    )
    sample_prompt: str = setting("", "What the sample text begins with; empty: a blank state.")


class ClusterConfig(Section):
    """Where and on how many workers things run."""

    backend: Literal["ray", "local"] = setting("ray", "ray, or local: the same loop in this process without Ray.")
    address: str | None = setting(
        None, "Ray cluster to join (host:port or ray://…); null: RAY_ADDRESS if set, else a private local one."
    )
    num_workers: CountOrAuto = setting(
        "auto", "Data-parallel workers; auto: one per GPU, or a single one with all threads.", unit="workers"
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Device of a worker; auto: cuda where there is one.")
    cpus_per_worker: CountOrAuto = setting(
        "auto", "CPUs and threads of a worker; auto: this machine's CPUs over the workers.", unit="CPUs"
    )
    max_failures: int = setting(2, "Lost workers or nodes survived before a run gives up.", unit="failures", ge=0)


DEFAULT_SPACE = {
    "optimizer.lr": {"loguniform": [5e-4, 1e-2]},
    "model.hidden_size": {"choice": [128, 256, 512]},
    "train.bptt": {"choice": [32, 64, 128]},
}


class SearchConfig(Section):
    """Hyperparameter search by validation perplexity."""

    space: dict[str, Any] = setting(
        DEFAULT_SPACE,
        "Dotted path → list of values, or {choice: […]}, {uniform: [low, high]}, {loguniform: [low, high]}, "
        "{randint: [low, high]} (high excluded).",
    )
    num_trials: int = setting(8, "Settings tried.", unit="trials", ge=1)
    max_concurrent: int | None = setting(None, "Trials at a time; null: as many as fit.", unit="trials", ge=1)
    scheduler: Literal["asha", "none"] = setting(
        "asha", "Stop the worse trials early, or let each run to its end.", source="Li et al. 2020"
    )
    max_tokens: int | None = setting(
        None, "Training budget of one trial; null: what train.* gives.", unit="tokens", ge=1
    )
    grace_tokens: int | None = setting(
        None, "Tokens before a trial may be stopped, the first rung; null: a ninth of the budget.", unit="tokens", ge=1
    )
    reduction_factor: int = setting(3, "One in so many trials goes on to the next rung.", ge=2)
    seed: int = setting(1, "Seed of the sampled settings.", ge=0)


class Config(Section):
    """A whole resolved configuration; see each section."""

    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    run: RunConfig = RunConfig()
    cluster: ClusterConfig = ClusterConfig()
    search: SearchConfig = SearchConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        workers = self.cluster.num_workers
        if workers != "auto" and workers > self.train.batch_size:
            raise ValueError(
                f"cluster.num_workers: {workers} workers need at least as many streams, "
                f"but train.batch_size is {self.train.batch_size}"
            )
        if workers != "auto" and workers > 1 and self.cluster.backend == "local":
            raise ValueError(f"cluster.num_workers: cluster.backend=local runs exactly 1 worker, not {workers}")
        if self.corpus.valid_fraction + self.corpus.test_fraction >= 1:
            raise ValueError(
                "corpus.valid_fraction: valid_fraction + test_fraction must leave something to train on, "
                f"not {self.corpus.valid_fraction} + {self.corpus.test_fraction}"
            )
        return self


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Merge defaults, the YAML file at ``path`` and ``section.field=value`` overrides into one ``Config``.

    ``run.directory`` and ``data.directory`` are filled in from the file's name where they are null.

    Raises:
        ValueError: naming every unknown or invalid setting by its dotted path, one a line.
    """
    values = _read_yaml(Path(path)) if path is not None else {}
    problems: list[str] = []
    for override in overrides:
        _apply(values, override, problems)
    config = validate(values, problems)
    return _fill_directories(config, name=Path(path).stem if path is not None else "default")


def validate(values: Mapping[str, Any], problems: Sequence[str] = ()) -> Config:
    """A ``Config`` from nested ``values``; ``problems`` found earlier are listed with the validator's own.

    Raises:
        ValueError: as ``load``.
    """
    config = None
    found = list(problems)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        found += [_sentence(item) for item in error.errors()]
    if found or config is None:
        raise ValueError("\n".join(found))
    return config


def dump(config: Config) -> dict[str, Any]:
    """``config`` as plain nested values, the inverse of ``validate``."""
    return config.model_dump(mode="json")


def with_values(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with ``{"section.field": value}`` replaced, validated again (a search sample)."""
    values = dump(config)
    problems: list[str] = []
    for path, value in changes.items():
        _assign(values, path, value, problems)
    return validate(values, problems)


def get(config: Config, path: str) -> Any:
    """The value at a dotted ``section.field`` path."""
    section, _, field = path.partition(".")
    return getattr(getattr(config, section), field)


def data_fingerprint(config: Config) -> str:
    """Hex digest of all that decides the bytes of the prepared corpus (its directory apart)."""
    settings = {
        "corpus": config.corpus.model_dump(mode="json"),
        "tokenizer": config.tokenizer.model_dump(mode="json"),
        "shard_tokens": config.data.shard_tokens,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def to_yaml(config: Config, *, without: Sequence[str] = ()) -> str:
    """``config`` as a YAML file that ``load`` takes, leaving out the sections in ``without``."""
    values = {name: section for name, section in dump(config).items() if name not in without}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _fill_directories(config: Config, name: str) -> Config:
    changes: dict[str, Any] = {}
    if config.run.directory is None:
        changes["run.directory"] = f"runs/{name}"
    if config.data.directory is None:
        changes["data.directory"] = f"data/{name}-{data_fingerprint(config)[:8]}"
    return with_values(config, changes)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"--config: no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config: cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"--config: {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"--config: {path} must hold sections (corpus:, model:, …), not a {type(values).__name__}")
    return values


def _apply(values: dict[str, Any], override: str, problems: list[str]) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        problems.append(f"{override}: an override must look like section.field=value")
        return
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    _assign(values, path, value, problems)


def _assign(values: dict[str, Any], path: str, value: Any, problems: list[str]) -> None:
    section, dot, field = path.partition(".")
    if path in Config.model_fields:
        problems.append(f"{path}: a section; set one of its fields, {path}.field=value")
        return
    if not dot or not field:
        problems.append(_unknown(path, [f"{s}.{f}" for s in Config.model_fields for f in section_fields(s)]))
        return
    if values.get(section) is None:
        values[section] = {}
    if not isinstance(values[section], dict):
        problems.append(f"{section}: must be a section of settings, not {values[section]!r}")
        return
    values[section][field] = value


def section_fields(section: str) -> dict[str, Any]:
    """Field name → pydantic ``FieldInfo`` of the section called ``section``."""
    model: Any = Config.model_fields[section].annotation
    return dict(model.model_fields)


def _unknown(path: str, known: Sequence[str]) -> str:
    """``path: unknown setting``, with the nearest of ``known`` (whose last part is shown where that is enough)."""
    near = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    return f"{path}: unknown setting" + (f"; did you mean {near[0]}?" if near else "")


def _sentence(error: Any) -> str:
    """One pydantic error as one sentence that begins with the dotted path."""
    location = [str(part) for part in error["loc"] if not str(part).startswith(("function-", "literal["))]
    path = ".".join(location[:2])
    if error["type"] == "extra_forbidden":
        known = list(section_fields(location[0])) if len(location) > 1 else list(Config.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"{path}: unknown setting" + (f"; did you mean {near[0]}?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message[0].lower()}{message[1:]}, not {error['input']!r}"
