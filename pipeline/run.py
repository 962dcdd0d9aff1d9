"""Build one rank of a training run from its configuration, top to bottom, and train. Knows nothing of Ray.

config + prepared corpus → model, optimizer, step, data → (checkpoint) → fit → outcome
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.allocator import keep_freed_memory
from pipeline.config import Config, changes
from pipeline.data.shards import PreparedCorpus, open_prepared
from pipeline.data.streams import ResetRule
from pipeline.data.training_data import training_data
from pipeline.errors import UserError
from pipeline.evaluate import Score, evaluate, split_held_out
from pipeline.generate import write_sample
from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import set_tf32
from pipeline.model.regularization import Penalties
from pipeline.resources import Worker
from pipeline.seeds import mix
from pipeline.training import checkpoint, embedding_rows, sitting
from pipeline.training.averaging import Averaging
from pipeline.training.clipping import Clipping
from pipeline.training.directory import RunDirectory
from pipeline.training.horizon import Horizon
from pipeline.training.loop import CHANGES
from pipeline.training.manifest import Progress
from pipeline.training.memory import check_memory
from pipeline.training.monitor import Record
from pipeline.training.optimizers import build_optimizer
from pipeline.training.parts import Loop, RunState
from pipeline.training.pruning import Pruning
from pipeline.training.resume import newest, restore, take_over
from pipeline.training.rollback import Rollback
from pipeline.training.saving import Saver
from pipeline.training.selection import manifest_of_step
from pipeline.training.stateful import HiddenState, Interval
from pipeline.training.step import TrainingStep
from pipeline.training.stragglers import Stragglers
from pipeline.training.teaching.part import teaching_of
from pipeline.training.watchdog import Watchdog


def corpus_of(loaded: checkpoint.Loaded) -> PreparedCorpus:
    """Open the corpus that a checkpoint was trained on. Raises ``UserError`` if it is gone or has been replaced."""
    corpus = open_prepared(loaded.config.data.directory)
    if corpus.tokenizer.fingerprint != loaded.tokenizer.fingerprint:
        raise UserError(f"{corpus.directory}: its tokenizer is not the one that {loaded.path} was trained with")
    if corpus.fingerprint != loaded.manifest["fingerprints"]["corpus"]:
        raise UserError(f"{corpus.directory}: holds a different corpus from the one that {loaded.path} was trained on")
    return corpus


def fingerprints(corpus: PreparedCorpus, *, teacher: str | None = None) -> dict[str, str]:
    """Return what a checkpoint must have been trained on for a run to continue it; ``teacher``: its fingerprint."""
    found = {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer.fingerprint}
    return found if teacher is None else {**found, "teacher": teacher}


def train(
    config: Config,
    worker: Worker,
    *,
    owner: str = "",
    held_by: str | None = None,
    report: Callable[[dict[str, Any]], None] = lambda figures: None,
    stop_requested: Callable[[], bool] | None = None,
    on_record: Callable[[Record], None] | None = None,
    on_waiting: Callable[[Record], None] | None = None,
    evaluate_at_tokens: Sequence[int] = (),
    save_requested: Callable[[], bool] = lambda: False,
    watchdog: Watchdog | None = None,
) -> str:
    """Train, or continue training, as one rank; return how ``fit`` ended.

    Args:
        owner, held_by: the token of the driver that holds the run directory, and the directory it is in (see
            ``RunDirectory``).
        report: called on every rank with the figures after each validation.
        stop_requested: asked between steps; by default whether the run directory holds a stop request.
        on_record: called on rank 0 with each record of the metrics file.
        on_waiting: called on rank 0 with each of them that the storage does not accept for now.
        evaluate_at_tokens: validations besides those that the settings ask for, as ``train.evaluate_at_tokens``.
        save_requested: asked between steps; true, once, if this rank may soon be gone.
        watchdog: ends this process when a step takes too long.

    Raises:
        TrainingStoppedError: the numbers went wrong, or the storage or the memory failed.
        UnwritableError: nothing can be written to the run directory from the start.
    """
    torch.set_num_threads(worker.num_threads)
    if worker.device.type == "cpu":
        keep_freed_memory()
    set_tf32(config.train.tf32)
    directory = RunDirectory(str(config.run.directory), owner=owner, held_by=held_by)
    corpus = open_prepared(config.data.directory)
    state = state_of(newest(directory, rank=worker.rank), config, worker, corpus)
    with ExitStack() as stack:
        seen: dict[str, Any] = {}
        if watchdog is not None:
            stack.enter_context(closing(watchdog))
        if worker.rank == 0:
            told = {"on_record": on_record, "on_waiting": on_waiting}
            seen = stack.enter_context(sitting.observers(state, config, directory, worker.num_threads, **told))
        seen |= {
            "report": report,
            "stop_requested": stop_requested or directory.stop_requested,
            "save_requested": save_requested,
            "watchdog": watchdog,
            "evaluate_at_tokens": [*config.train.evaluate_at_tokens, *evaluate_at_tokens],
        }
        loop = build_loop(config, worker, corpus, state, directory, **seen)
        while (status := sitting.train(loop, directory)) == CHANGES:
            loop = changed(loop, config, worker, corpus, directory, **seen)
        return status


def state_of(resumed: Path | None, config: Config, worker: Worker, corpus: PreparedCorpus) -> RunState:
    """Return the state that a run begins with, or the state in the checkpoint ``resumed``."""
    tokens = manifest_of_step(resumed)["tokens"] if resumed else 0
    model = build_model(changes.in_force(config, tokens), corpus.vocab_size).to(worker.device)
    if resumed:
        checkpoint.load_weights_into(model, resumed)
    elif config.train.initial_weights:
        checkpoint.load_initial_weights(model, config.train.initial_weights)
    state = build_state(config, worker, corpus, model, tokens=tokens)
    if resumed:
        restore(state, resumed)
    return state


def build_model(config: Config, vocab_size: int) -> LanguageModel:
    """Build the untrained model, the same on every rank. Raises ``UserError`` if the memory is too small for it."""
    check_memory(config, vocab_size)
    torch.manual_seed(mix(config.train.seed))
    model = LanguageModel(config.model, vocab_size)
    return model.double() if config.train.precision == "float64" else model


def build_step(
    config: Config, worker: Worker, model: LanguageModel, *, total_steps: int, vocab_size: int
) -> TrainingStep:
    """Build what turns a window into an update, as ``config`` says, in a run of ``total_steps``."""
    return TrainingStep(
        model,
        build_optimizer(config.optimizer, model),
        clipping=Clipping.of(config.train, device=worker.device),
        averaging=Averaging(config.optimizer, model.parameters()),
        pruning=Pruning(config.prune, model.parameters(), total_steps),
        precision=config.train.precision,
        seed=config.train.seed,
        accumulation_steps=config.train.gradient_accumulation_steps,
        penalties=Penalties(config.train.activation_penalty, config.train.temporal_activation_penalty),
        batch_size=config.train.batch_size,
        embedding_rows=embedding_rows.chosen(config, vocab_size),
        ddp=config.ddp,
        rank=worker.rank,
        world_size=worker.world_size,
    )


def build_state(
    config: Config,
    worker: Worker,
    corpus: PreparedCorpus,
    model: LanguageModel,
    *,
    tokens: int = 0,
    former: RunState | None = None,
) -> RunState:
    """Build the state of one rank at step 0, with the settings that are in force after ``tokens``.

    ``former``: the state before a change of settings. Its teacher is kept: the run that ``train.teacher`` names may
    have another best checkpoint by now.
    """
    now = changes.in_force(config, tokens)
    data_of = partial(training_data, corpus=corpus, rank=worker.rank, world_size=worker.world_size)
    horizon = Horizon.of(config, data_of)
    data = horizon.first if now.train.bptt == config.train.bptt else data_of(now)
    zeros = model.initial_state(len(data.rows), device=worker.device, dtype=model.dtype)
    ranks: dict[str, Any] = {"rank": worker.rank, "world_size": worker.world_size}
    if former is None:
        teaching = teaching_of(now.train, corpus, data, device=worker.device, **ranks)
    else:
        teaching = former.teaching
    return RunState(
        data=data,
        horizon=horizon,
        step=build_step(now, worker, model, total_steps=horizon.total_steps, vocab_size=corpus.vocab_size),
        hidden=HiddenState(zeros, data),
        interval=Interval(worker.device, **ranks),
        progress=Progress(),
        teaching=teaching,
    )


def changed(
    former: Loop, config: Config, worker: Worker, corpus: PreparedCorpus, directory: RunDirectory, **seen_by: Any
) -> Loop:
    """Return the loop that continues ``former`` with the settings that are in force from its position on."""
    tokens = former.progress.tokens
    before, after = (changes.in_force(config, place) for place in (former.tokens_before, tokens))
    if former.monitor is not None:
        text = changes.in_words(before, after)
        former.monitor.write("change", step=former.progress.step, tokens=tokens, text=text)
    model = build_model(after, corpus.vocab_size).to(worker.device)
    state = build_state(config, worker, corpus, model, tokens=tokens, former=former)
    take_over(state, former)
    loop = build_loop(config, worker, corpus, state, directory, **seen_by)
    loop.checkpoints, loop.clock, loop.saved_at = former.checkpoints, former.clock, former.saved_at
    return loop


def build_loop(
    config: Config, worker: Worker, corpus: PreparedCorpus, state: RunState, directory: RunDirectory, **seen_by: Any
) -> Loop:
    """Return ``state`` with all that training calls. Scoring stays the same through all changes of settings.

    Args:
        seen_by: what the loop notifies and asks as it runs, by their names in ``Loop``.
    """
    model = state.step.model
    reset = ResetRule.of(config.train)
    model.reset_after, model.reset_every = reset.type_before(corpus.tokenizer), reset.every_tokens
    now = changes.in_force(config, state.progress.tokens)
    facts = {
        "fingerprints": fingerprints(corpus, teacher=state.teaching.fingerprint if state.teaching else None),
        "num_workers": worker.world_size,
        "num_threads": worker.num_threads,
        "device": worker.device.type,
        "torch": torch.__version__,
    }

    def score() -> Score:
        return evaluate(
            model,
            split_held_out(corpus, "valid", layout=config.data.layout),
            streams=config.evaluate.streams,
            bptt=config.train.bptt,
            reset=reset,
            burn_in=config.evaluate.burn_in,
            rank=worker.rank,
            world_size=worker.world_size,
            precision=config.train.precision,
        )

    def sample() -> str:
        prompt, num_tokens = config.run.sample_prompt, config.run.sample_tokens
        how: dict[str, Any] = {"num_tokens": num_tokens, "seed": config.train.seed, "layout": config.data.layout}
        return write_sample(model, corpus.tokenizer.of_form(config.corpus.normalize), prompt, **how)

    return Loop(
        **vars(state),
        train=now.train,
        optimizer=now.optimizer,
        until_tokens=changes.next_change(config, state.progress.tokens),
        evaluate=score if "valid" in corpus.splits else None,
        sample=sample if config.run.sample_tokens else None,
        checkpoints=Saver(directory, config=config, tokenizer=corpus.tokenizer, facts=facts, writes=worker.rank == 0),
        rollback=Rollback(state.step.parts) if config.train.on_bad_window == "undo" else None,
        stragglers=Stragglers(worker.rank, worker.world_size) if worker.world_size > 1 else None,
        **seen_by,
    )
