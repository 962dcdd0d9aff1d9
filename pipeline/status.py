"""Tell the driver where a run stands: whether it may begin or continue, whether it is finished, and its result.

config + prepared corpus + run directory → a refusal in words, or the figures of the run's checkpoints
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline import run
from pipeline.config import Config, OptimizerConfig, changes
from pipeline.data.counting import Counts
from pipeline.data.extracts import some
from pipeline.data.shards import PreparedCorpus
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.windows import TrainingData
from pipeline.errors import UserError
from pipeline.generate import prompt_ids
from pipeline.model.head.build import cutoffs_for
from pipeline.model.shapes import shapes_of
from pipeline.training import checkpoint
from pipeline.training.horizon import Horizon, out_of_patience, steps_of, tokens_after, total_steps, words_after
from pipeline.training.pruning import zeros_of
from pipeline.training.resume import check_continues
from pipeline.training.selection import reading
from pipeline.training.teaching.part import check_teacher
from pipeline.training.word_marks import AT_WORDS, reached

# the epochs after which the rate falls by steps
DECAYS = ("optimizer.decay_at_epochs", "optimizer.decay_after_epochs")
# what a model computes with weights of the same names and shapes depends on these
UNSEEN_IN_SHAPES = ("num_heads", "slstm_forget_gate", "residual", "attention")


def check(config: Config, corpus: PreparedCorpus, *, num_workers: int, fresh: bool = False) -> None:
    """Find, before any rank is started, what would stop every rank; ``fresh``: whatever the run directory holds.

    Raises:
        UserError: too little text for a window or to score, more workers than rows, a head that does not fit the
            vocabulary, a sample's prompt that the tokenizer does not know, initial weights or a teacher that are
            missing or do not fit, or a run directory that holds another run.
    """
    check_data(config, corpus, num_workers)
    configuration.check_accumulation(config.train, num_workers)
    shapes_of(config.model, corpus.vocab_size)
    check_between_windows(config, num_valid_of(corpus), corpus.tokenizer)
    found = None if fresh else checkpoint.newest(str(config.run.directory))
    teacher = None
    if config.train.teacher is not None and (found is None or not ended(config, corpus)):
        if fresh:
            refuse_inside("train.teacher", config.train.teacher, config)
        teacher = check_teacher(config.train, corpus).fingerprint
    if found is not None:
        check_continues(*found, config, fingerprints=run.fingerprints(corpus, teacher=teacher))
    elif config.train.initial_weights is not None:
        if fresh:
            refuse_inside("train.initial_weights", config.train.initial_weights, config)
        check_initial_weights(config, corpus)


def check_ahead(config: Config, counts: Counts, *, fresh: bool = False) -> None:
    """Find what ``check`` would find, before anything is prepared: all of it if the corpus is prepared already.

    Otherwise what depends on the files of the corpus, or on a tokenizer that is not learnt yet, is left to ``check``.

    Raises:
        UserError: as ``check``.
    """
    count = config.cluster.num_workers
    num_workers = 1 if count == "auto" else count
    if counts.prepared is not None:
        check(config, counts.prepared, num_workers=num_workers, fresh=fresh)
        return
    configuration.check_accumulation(config.train, num_workers)
    shapes_of(config.model, counts.vocab_size)
    if counts.tokenizer is not None:
        check_between_windows(config, counts.tokens.get("valid") if counts.is_exact else None, counts.tokenizer)


def refuse_inside(setting: str, path: str, config: Config) -> None:
    """Raise ``UserError`` for a model of ``setting`` that lies in the run directory, which is about to be set aside."""
    if Path(path).resolve().is_relative_to(Path(str(config.run.directory)).resolve()):
        raise UserError(f"{setting}: {path} lies in run.directory, which starting over sets aside")


def check_data(config: Config, corpus: PreparedCorpus, num_workers: int) -> None:
    """Raise ``UserError`` for too little text, or too few rows, for the windows of any stretch of the run."""
    for tokens, part in changes.stretches(config):
        try:
            run.training_data(part, corpus, rank=0, world_size=num_workers)
        except UserError as error:
            raise UserError(f"train.changes: at {tokens:,} tokens: {error}" if tokens else str(error)) from None


def check_between_windows(config: Config, num_valid: int | None, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` for what would end the run only at its first validation.

    Args:
        num_valid: tokens of the validation split, None if there is none.
    """
    if num_valid is not None:
        check_scored("valid", num_valid)
    if config.run.sample_tokens:
        tokenizer = tokenizer.of_form(config.corpus.normalize)
        prompt_ids(tokenizer, config.run.sample_prompt, layout=config.data.layout, argument="run.sample_prompt")


def check_scored(split: str, num_tokens: int) -> None:
    """Raise ``UserError`` for a held-out split of a single token."""
    if num_tokens < 2:
        text = "validation" if split == "valid" else split
        raise UserError(f"corpus.{split}: a single token of {text} text cannot be scored; at least 2 are needed")


def num_valid_of(corpus: PreparedCorpus) -> int | None:
    """Return the number of tokens of the validation split, None if there is none."""
    return len(corpus.splits["valid"]) if "valid" in corpus.splits else None


def check_initial_weights(config: Config, corpus: PreparedCorpus) -> None:
    """Raise ``UserError`` unless train.initial_weights is a model of this shape, trained with this tokenizer."""
    path = str(config.train.initial_weights)
    try:
        loaded = checkpoint.load_model(path)
    except UserError as error:
        raise UserError(f"train.initial_weights: {error}") from None
    if loaded.tokenizer.fingerprint != corpus.tokenizer.fingerprint:
        raise UserError(f"train.initial_weights: {path} was not trained with the tokenizer of the corpus")
    untrained = run.build_model(config, corpus.vocab_size)
    shapes = [[(name, p.shape) for name, p in model.named_parameters()] for model in (loaded.model, untrained)]
    if shapes[0] != shapes[1]:
        raise UserError(f"train.initial_weights: {path} is not a model of the shape that model.* describes")
    for name in UNSEEN_IN_SHAPES:
        theirs, own = (getattr(model, name) for model in (loaded.config.model, config.model))
        if theirs != own:
            raise UserError(f"train.initial_weights: {path} was trained with model.{name}={theirs}, not {own}")
    if config.model.head == "adaptive":
        theirs, own = (cutoffs_for(model, corpus.vocab_size) for model in (loaded.config.model, config.model))
        if theirs != own:
            raise UserError(
                f"train.initial_weights: {path} was trained with model.adaptive_cutoffs={theirs}, not {own}"
            )


def ended(config: Config, corpus: PreparedCorpus) -> str:
    """Return how the run in the directory ended, and what would continue it; empty if it has not ended."""
    found = checkpoint.newest(str(config.run.directory))
    if found is None:
        return ""
    manifest = found[1]
    horizon = Horizon.of(config, partial(run.training_data, corpus=corpus, rank=0, world_size=1))
    if manifest["step"] >= horizon.total_steps:
        return f"finished ({what_continues(config, corpus, horizon.total_steps)})"
    if out_of_patience(config.train, manifest["num_worse"]):
        return "ended by train.patience (a larger one continues it)"
    return ""


def decays(optimizer: OptimizerConfig) -> list[int]:
    """The epochs after which the rate first falls, or falls, by steps."""
    return (optimizer.decay_at_epochs or [optimizer.decay_after_epochs]) if optimizer.schedule == "step" else []


def not_reached(config: Config, corpus: PreparedCorpus) -> Iterator[str]:
    """Yield a sentence for each setting that has an effect only beyond the end of a run of ``config``."""
    train, optimizer, prune = config.train, config.optimizer, config.prune
    numbers = train.words_of_checkpoints
    changing = {path for change in train.changes for path in change.settings}
    warms_up = optimizer.warmup_steps > 0 and optimizer.schedule != "1cycle"
    warms_up = warms_up and changing.isdisjoint(("optimizer.warmup_steps", "optimizer.schedule"))
    falls = [] if changing & {"optimizer.schedule", *DECAYS} else decays(optimizer)
    is_limited = warms_up or falls or optimizer.average == "tail" or prune.sparsity
    if not (numbers or train.changes or train.evaluate_at_tokens or is_limited):
        return
    first = run.training_data(changes.in_force(config, 0), corpus, rank=0, world_size=1)
    steps = total_steps(train, first)
    if numbers:
        yield from without_checkpoint(config, first, num_words=words_after(steps, first))
    if warms_up and optimizer.warmup_steps > steps:
        yield f"optimizer.warmup_steps: {optimizer.warmup_steps:,} are more than the {steps:,} steps of the run"
    if passed := [f"{end:,}" for end in falls if steps_of(end, first, at_most=steps) == steps]:
        where = f"beyond epoch {some(passed)}, so the rate does not fall there"
        yield f"{DECAYS[not optimizer.decay_at_epochs]}: the run has no step {where}"
    if optimizer.average == "tail" and steps_of(optimizer.average_after_epochs, first, at_most=steps) == steps:
        yield (
            f"optimizer.average_after_epochs: nothing is averaged, as the run has no step beyond epoch "
            f"{optimizer.average_after_epochs:,}"
        )
    if prune.sparsity and prune.every_steps >= steps:
        yield (
            f"prune.every_steps: {prune.every_steps:,} are not fewer than the {steps:,} steps of the run, so all "
            "is pruned at once after the last one"
        )
    end = tokens_after(steps, first)
    lengths = {part.train.bptt for _, part in changes.stretches(config)}
    # if the length of windows changes, the last one may end a little later
    beyond = train.batch_size * max(lengths) if len(lengths) > 1 else 1
    far = [("changes", change.tokens) for change in train.changes if change.tokens >= end]
    far += [("evaluate_at_tokens", tokens) for tokens in train.evaluate_at_tokens if tokens >= end + beyond]
    for name, tokens in far:
        yield f"train.{name}: {tokens:,} tokens come too late: the run ends after {end:,}"


def without_checkpoint(config: Config, first: TrainingData, *, num_words: int) -> Iterator[str]:
    """Yield a sentence about numbers of ``train.checkpoint_at_words`` that the run has passed or does not reach.

    Args:
        first: its data before any change of settings.
        num_words: that it reads in all.
    """
    name, numbers, directory = "train.checkpoint_at_words", config.train.words_of_checkpoints, config.run.directory
    read, saved = 0, set[int]()
    if (found := checkpoint.newest(str(directory))) is not None:
        assert first.words is not None
        read = first.words.after(found[1]["epoch"], found[1]["position"])
        saved = {number for _, one in checkpoint.manifests(str(directory)) for number in one.get(AT_WORDS, ())}
    coming = reached(numbers, before=read, now=num_words, is_last=True)
    left_out = [number for number in numbers if number not in saved and number not in coming]
    if early := [f"{number:,}" for number in left_out if number <= read]:
        yield f"{name}: {some(early)} come too early: this run has read {read:,} words already"
    if late := [f"{number:,}" for number in left_out if number > read]:
        yield f"{name}: {some(late)} come too late: the run reads {num_words:,} words"


def less_sparse(config: Config, figures: Mapping[str, Any]) -> str:
    """Say that the best checkpoint is from before all was pruned; empty if it is not.

    ``figures``: what ``result`` returns. The fewer weights are zero, the lower a perplexity usually is. Zeros are
    counted: a run that was made longer after its end had more of them by then than its present length says.
    """
    prune, best = config.prune, Path(figures["checkpoint"])
    if not prune.sparsity:
        return ""
    found, is_whole = zeros_of(checkpoint.matrices_of(best), prune)
    if is_whole:
        return ""
    last = best.with_name(checkpoint.folder_name(figures["steps"]))
    _, is_whole = zeros_of(checkpoint.matrices_of(last), prune)
    also = "the last one has" if is_whole else "and the run ended before any had"
    return (
        f"prune.sparsity: the best checkpoint, {best.name}, has {found:.0%} of its matrices at zero, not "
        f"{prune.sparsity:.0%}; {also}"
    )


def what_continues(config: Config, corpus: PreparedCorpus, num_steps: int) -> str:
    """Say which of its limits ended a run after ``num_steps``, so that a larger one would continue it."""

    def is_longer(name: str, value: int | None) -> bool:
        longer = configuration.with_values(config, {name: value})
        data_of = partial(run.training_data, corpus=corpus, rank=0, world_size=1)
        return Horizon.of(longer, data_of).total_steps > num_steps

    limits = [f"train.{name}" for name in ("max_steps", "max_tokens", "max_words") if getattr(config.train, name)]
    for name in limits:
        if is_longer(name, None):
            return f"a larger {name} continues it"
    if not limits or is_longer("train.epochs", config.train.epochs + 1):
        return "more train.epochs continue it"
    return f"only larger {' and '.join([*limits, 'train.epochs'])} continue it"


def result(config: Config, *, say: Callable[[str], None] = lambda sentence: None) -> dict[str, Any]:
    """Return the figures of a run from its best checkpoint, and its length from its last one.

    Args:
        say: called with a sentence if the run had a better checkpoint that no longer exists.

    Raises:
        UserError: the best checkpoint is damaged, or it cannot be determined.
    """
    directory = str(config.run.directory)
    best, figures = reading(directory, None, lambda choice: (choice, checkpoint.verify(choice.path)))
    end = checkpoint.manifests(directory)[-1][1]
    if best.remark:
        say(best.remark)
    return {
        "perplexity": figures.get("perplexity"),
        "bits_per_byte": figures.get("bits_per_byte"),
        "tokens": end["tokens"],
        **({} if end["words"] is None else {"words": end["words"]}),
        "steps": end["step"],
        "seconds": round(end["seconds"], 3),
        "checkpoint": str(best.path),
    }
