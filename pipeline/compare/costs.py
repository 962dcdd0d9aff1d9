"""What the models of a comparison cost, in one file: time, peak memory, and one more token after a context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from pipeline.allocator import keep_freed_memory
from pipeline.compare.memory import training_peaks, with_context, with_window
from pipeline.compare.plan import Comparison
from pipeline.compare.speed import AfterContext, Timing, token_times, training_times
from pipeline.compare.widths import Sized
from pipeline.config import Config
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError
from pipeline.files import write_file
from pipeline.model.precision import set_tf32
from pipeline.resources import Worker
from pipeline.search.standing import Standing
from pipeline.strict_json import to_json

COSTS = "costs.json"
FREE = "optimizer.lr"  # steps are measured at a rate of their own
Settings = Mapping[str, Mapping[str, Any]]  # by ``key_of``, then by dotted path
# how models are measured, raised whenever figures of both ways cannot be compared; 1: states of training steps were
# never made zero, whatever the run does
METHOD = 2


@dataclass(frozen=True)
class Cost:
    """What one variant at one size costs."""

    training: Timing  # seconds a token
    peaks: Mapping[int, int | None]  # window length → bytes
    contexts: Mapping[int, AfterContext]

    @property
    def tokens_per_second(self) -> float:
        return 1 / self.training.median

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Cost:
        contexts = {
            int(context): AfterContext(Timing(**found["timing"]), found["state_bytes"])
            for context, found in values["contexts"].items()
        }
        peaks = {int(length): peak for length, peak in values["peaks"].items()}
        return cls(Timing(**values["training"]), peaks, contexts)


@dataclass(frozen=True)
class Costs:
    """The costs of all models, by ``key_of``, and the machine that they were measured on."""

    measured: Mapping[str, Cost]
    machine: str

    def of(self, one: Sized) -> Cost:
        return self.measured[key_of(one)]

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Costs:
        return cls({key: Cost.of_json(cost) for key, cost in values["measured"].items()}, values["machine"])


def key_of(one: Sized) -> str:
    """``lstm, 1,000,000 parameters``."""
    return f"{one.name}, {one.target:,} parameters"


def settings_of(comparison: Comparison, standing: Standing) -> Settings:
    """The settings of each model as it was compared, so with what its search found; without its learning rate, on
    which no cost depends."""
    found: dict[str, dict[str, Any]] = {}
    for one in comparison.sizes:
        own = comparison.found(one, standing) or {}
        found[key_of(one)] = {**one.settings, **{path: own[path] for path in own if path != FREE}}
    return found


def measure(
    config: Config,
    sizes: Sequence[Sized],
    settings: Settings,
    corpus: PreparedCorpus,
    worker: Worker,
    *,
    say: Callable[[str], None] = lambda sentence: None,
) -> Costs:
    """Measure every model of ``sizes`` with its ``settings``, see ``settings_of``, in this process, in turns.

    Args:
        config: that of a run before its settings.
    """
    torch.set_num_threads(worker.num_threads)
    if worker.device.type == "cpu":
        keep_freed_memory()
    set_tf32(config.train.tf32)
    compare = config.compare
    configs = {key_of(one): one.variant.config(config, settings[key_of(one)]) for one in sizes}
    say("measuring the time of training steps, in turns")
    trainings = training_times(configs, corpus, worker, num_rounds=compare.rounds)
    say("measuring the peak memory of training steps")
    vocab_size = corpus.vocab_size
    peaks = {
        key: training_peaks(each, sorted(compare.window_lengths), worker, vocab_size=vocab_size)
        for key, each in configs.items()
    }
    contexts: dict[str, dict[int, AfterContext]] = {key: {} for key in configs}
    for context in sorted(compare.contexts):
        say(f"measuring one more token after {context:,}, in turns")
        long_enough = {key: with_context(each, context) for key, each in configs.items()}
        how = {"vocab_size": vocab_size, "context": context, "num_rounds": compare.rounds}
        for key, found in token_times(long_enough, worker, **how).items():
            contexts[key][context] = found
    measured = {key: Cost(trainings[key], peaks[key], contexts[key]) for key in configs}
    return Costs(measured, machine_of(worker))


def check_measured(config: Config, comparison: Comparison) -> None:
    """Raise ``UserError`` for a context or a window that a variant, or one of its draws, cannot have."""
    for one, draw in product(comparison.sizes, comparison.draws or [{}]):
        model = one.variant.config(config, {**one.settings, **draw})
        for length in config.compare.window_lengths:
            with_window(model, length)
        for context in config.compare.contexts:
            with_context(model, context)


def machine_of(worker: Worker) -> str:
    """``2 threads of AMD EPYC 9V74``, or the name of the GPU."""
    if worker.device.type == "cuda":
        return torch.cuda.get_device_name(worker.device)
    name = "a CPU"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{worker.num_threads} thread{'s' if worker.num_threads > 1 else ''} of {name}"


def save(directory: Path, costs: Costs, *, wanted: Mapping[str, Any]) -> None:
    """Write ``costs``, and what they were ``wanted`` for (see ``load``). Raises ``UnwritableError``."""
    write_file(directory / COSTS, to_json({"method": METHOD, "wanted": wanted, **asdict(costs)}, indent=1) + "\n")


def load(
    directory: Path, *, wanted: Mapping[str, Any], say: Callable[[str], None] = lambda sentence: None
) -> Costs | None:
    """Costs that were measured before; None if there are none, or they are of other models or settings.

    Args:
        say: called with a sentence if they were measured by another ``METHOD``, and so are of no use.

    Raises:
        UserError: the file was not written by this version.
    """
    import json

    path = directory / COSTS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["wanted"] != json.loads(to_json(wanted)):
            return None
        if values.get("method", 1) != METHOD:
            say(f"{path} was measured by another version, in another way: all models are measured again")
            return None
        return Costs.of_json(values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: is not what a comparison wrote; without this file it is measured again") from None


def wanted_of(config: Config, settings: Settings) -> dict[str, Any]:
    """What decides what is measured; ``settings``: those of the models, see ``settings_of``."""
    compare = config.compare
    return {
        "models": settings,
        "window_lengths": sorted(compare.window_lengths),
        "contexts": sorted(compare.contexts),
        "rounds": compare.rounds,
        "device": config.cluster.device,
        "threads": config.cluster.cpus_per_worker,
    }
