"""A training step recorded once as a CUDA graph and replayed, compared with the same step made call by call.

A replay costs the host one call instead of several hundred. It needs windows of one shape and one learning rate, and
its masks are those that the step would draw: generators registered with a graph take a new seed before each replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from gpu_parts import Row, build_model, described, on_device, repeated, rows_of, step_precision, timed
from torch import Tensor
from training_step import Setting, build_step

from pipeline.model.language_model import LanguageModel
from pipeline.model.regularization import Masks
from pipeline.seeds import mix
from pipeline.training.step import TrainingStep

# updates before the recording, in which optimizers and cuBLAS allocate what they keep
NUM_BEFORE = 3
NUM_COMPARED = 5

Generators = dict[tuple[int, int], torch.Generator]
# takes what to record, and the generators that it uses; returns what replays it
Recorder = Callable[[Callable[[], None], Iterable[torch.Generator]], Callable[[], None]]


@dataclass(frozen=True)
class KeptMasks(Masks):
    """Masks whose generators are kept from window to window, by (place, layer)."""

    kept: Generators = field(default_factory=dict)

    def generator(self, device: torch.device, place: int, layer: int) -> torch.Generator:
        if (place, layer) not in self.kept:
            self.kept[place, layer] = torch.Generator(device)
        return self.kept[place, layer]


def recorded(run: Callable[[], None], generators: Iterable[torch.Generator]) -> Callable[[], None]:
    """Record the work that ``run`` launches on the current device, without doing it; return a call that does it."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """Launch work on another stream of a GPU, as torch requires before a recording."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


class GraphedStep:
    """Called with (T, B) inputs and targets, makes the update that ``step`` would, by a replay; returns the nats."""

    def __init__(
        self,
        step: TrainingStep,
        model: LanguageModel,
        given: list[tuple[Tensor, Tensor]],
        lr: float,
        recorder: Recorder = recorded,
    ) -> None:
        """Make the first ``NUM_BEFORE`` updates with the windows ``given``, one after another, then record."""
        self.step, self.lr, self.index = step, lr, 0
        self.kept: Generators = {}
        step.masks = partial(KeptMasks, kept=self.kept)
        self.inputs, self.targets = (part.clone() for part in given[0])
        self.state = model.initial_state(self.inputs.shape[1])
        self.nats = torch.zeros((), dtype=torch.float64, device=step.device)
        with aside(step.device):
            for index in range(NUM_BEFORE):
                self._begin(*given[index % len(given)])
                self._update()
                self.index += 1
        for group in step.optimizer.param_groups:
            if "capturable" in group:  # torch insists on the flag; the fused optimizers keep all state on the device
                group["capturable"] = True
        self._begin(self.inputs, self.targets)
        self.replay = recorder(self._update, self.kept.values())

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self._begin(inputs, targets)
        self.replay()
        self.index += 1
        return self.nats

    def _begin(self, inputs: Tensor, targets: Tensor) -> None:
        """Do the host's part of a step, which a graph does not contain: set the seeds, copy the window in."""
        self.inputs.copy_(inputs)
        self.targets.copy_(targets)
        torch.manual_seed(mix(self.step.seed, self.index, self.step.rank))
        for (place, layer), generator in self.kept.items():
            generator.manual_seed(mix(mix(self.step.seed, self.index), place, layer))

    def _update(self) -> None:
        nats, _, state = self.step(
            self.inputs, self.targets, self.state, num_targets=self.inputs.numel(), lr=self.lr, index=self.index
        )
        self.nats.copy_(nats)
        # keep only the values: a state with its autograd graph would keep alive what the last pass recorded
        for own, part in zip(self.state, state, strict=True):
            own.copy_(part.detach())


def graphs(settings: Mapping[str, Setting], device: torch.device, *, until: float) -> Iterator[Row]:
    """Rows of each shape: a step call by call and by a graph, and how far apart their losses are."""

    def measure(seconds: float, name: str, precision: str) -> Row:
        if device.type != "cuda":
            raise RuntimeError("CUDA graphs need a CUDA device")
        setting, low = settings[name], step_precision(precision)
        given = on_device(setting, device)
        called, graphed = _called(setting, given, low, device), _graphed(setting, given, low, device)
        apart = _apart(called, graphed, given)
        one = timed(called, device, seconds=seconds / 4)
        other = timed(lambda: graphed(*given[0]), device, seconds=seconds / 4)
        gain = one.milliseconds / other.milliseconds
        return {
            "row": f"CUDA graph of a training step, {name} ({described(setting)}), {precision}: ms call by call; by "
            "the graph; times as fast; losses apart, relative",
            "figure": f"{one.milliseconds:.3g}; {other.milliseconds:.3g}; {gain:.2f}; {apart:.1e}",
            "step_ms": one.milliseconds,
            "graph_ms": other.milliseconds,
            "gain": gain,
            "losses_apart": apart,
        }

    items = [{"name": name, "precision": precision} for name in settings for precision in ("tf32", "bf16")]
    return rows_of("CUDA graph of a training step", items, measure, until=until)


def _called(
    setting: Setting, given: list[tuple[Tensor, Tensor]], precision: str, device: torch.device
) -> Callable[[], Tensor]:
    model = build_model(setting, device)
    return repeated(build_step(setting, model, precision=precision), model, given, setting.lr)


def _graphed(
    setting: Setting,
    given: list[tuple[Tensor, Tensor]],
    precision: str,
    device: torch.device,
    recorder: Recorder = recorded,
) -> GraphedStep:
    model = build_model(setting, device)
    return GraphedStep(build_step(setting, model, precision=precision), model, given, setting.lr, recorder)


def _apart(called: Callable[[], Tensor], graphed: GraphedStep, given: list[tuple[Tensor, Tensor]]) -> float:
    """The largest relative difference of the first losses after the recording."""
    for _ in range(NUM_BEFORE):
        called()
    differences = []
    for index in range(NUM_BEFORE, NUM_BEFORE + NUM_COMPARED):
        theirs = float(graphed(*given[index % len(given)]))
        ours = float(called())
        differences.append(abs(ours - theirs) / abs(ours))
    return float(torch.tensor(differences, dtype=torch.float64).max())  # nan if there is one, unlike Python's max
