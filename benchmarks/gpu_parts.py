"""What ``gpu.py`` times: training steps with cuDNN's share of them, and the scan cells compared with nn.GRU.

Everything takes a device, so that a CPU can try all of it. Letters: T time, B streams, E embedding, H hidden.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import models
import torch
from torch import Tensor
from training_step import Setting, build_step, windows

from pipeline.model.language_model import LanguageModel
from pipeline.model.precision import set_tf32
from pipeline.model.recurrence import Recurrence

Row = dict[str, Any]

PRECISIONS = ("float32", "tf32", "bf16")
NUM_WINDOWS, WARM_UP = 8, 5
# seconds of calls between two readings of the clock, each of which waits for the device
GROUP_SECONDS = 0.03
CELLS = ("gru", "mingru", "minlstm", "qrnn")
# a small vocabulary, so that the recurrence is what is measured
SIZES = argparse.Namespace(embedding_size=256, vocab_size=256, rank=None)


@dataclass(frozen=True)
class Timed:
    """Medians of a call: from end to end, and until the host has handed it to the device."""

    milliseconds: float
    host_milliseconds: float


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: torch.device, *, seconds: float) -> Timed:
    """Time ``call`` for about ``seconds``, at least once, after ``WARM_UP`` calls that do not count."""
    for _ in range(WARM_UP):
        call()
    synchronize(device)
    began = time.perf_counter()
    call()
    synchronize(device)
    group = max(1, min(1000, round(GROUP_SECONDS / (time.perf_counter() - began))))
    whole: list[float] = []
    host: list[float] = []
    until = time.perf_counter() + seconds
    while not whole or time.perf_counter() < until:
        began = time.perf_counter()
        for _ in range(group):
            call()
        host.append((time.perf_counter() - began) / group)
        synchronize(device)
        whole.append((time.perf_counter() - began) / group)
    return Timed(1000 * statistics.median(whole), 1000 * statistics.median(host))


def step_precision(name: str) -> str:
    """Set TF32 as ``name`` of ``PRECISIONS`` requires; return the precision for the training step."""
    set_tf32(name != "float32")
    return "bf16" if name == "bf16" else "float32"


def on_device(setting: Setting, device: torch.device, number: int = NUM_WINDOWS) -> list[tuple[Tensor, Tensor]]:
    """The first ``number`` windows of ``setting``, (T, B) inputs and targets each."""
    return [(inputs.to(device), targets.to(device)) for inputs, targets in islice(windows(setting), number)]


def build_model(setting: Setting, device: torch.device) -> LanguageModel:
    """The model with its dropouts, with the same weights every time."""
    torch.manual_seed(0)
    return LanguageModel(setting.config(dropout=True), setting.vocab_size).to(device)


def repeated(
    step: Callable[..., Any], model: LanguageModel, given: list[tuple[Tensor, Tensor]], lr: float
) -> Callable[[], Tensor]:
    """A call that makes one update with the next of the windows ``given``, over and over; it returns the nats."""
    state, index, order = model.initial_state(given[0][0].shape[1]), 0, cycle(given)

    def call() -> Tensor:
        nonlocal state, index
        inputs, targets = next(order)
        nats, _, state = step(inputs, targets, state, num_targets=inputs.numel(), lr=lr, index=index)
        index += 1
        return nats

    return call


def layers_alone(recurrence: Recurrence, setting: Setting, precision: str, device: torch.device) -> Callable[[], Any]:
    """A call of the recurrent layers by themselves, forward and backward: on a GPU, what cuDNN's kernels take."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layers: list[Any] = [copy.deepcopy(layer).to(device, dtype) for layer in recurrence.layers]
    for layer in layers:
        layer.flatten_parameters()
    shape = (setting.bptt, setting.batch_size)
    inputs = torch.randn(*shape, layers[0].input_size, device=device, dtype=dtype, requires_grad=True)  # (T, B, E)
    gradient = torch.randn(*shape, layers[-1].hidden_size, device=device, dtype=dtype)  # (T, B, H)
    wanted = [inputs, *(parameter for layer in layers for parameter in layer.parameters())]

    def call() -> tuple[Tensor, ...]:
        hidden = inputs
        for layer in layers:
            hidden, _ = layer(hidden)
        return torch.autograd.grad(hidden, wanted, gradient)

    return call


def steps(settings: Mapping[str, Setting], device: torch.device, *, until: float) -> Iterator[Row]:
    """A row for each shape in each precision: a step with its dropouts, and its recurrent layers alone."""

    def measure(seconds: float, name: str, precision: str) -> Row:
        setting, low = settings[name], step_precision(precision)
        model = build_model(setting, device)
        alone = timed(layers_alone(model.recurrence, setting, low, device), device, seconds=seconds / 4)
        call = repeated(build_step(setting, model, precision=low), model, on_device(setting, device), setting.lr)
        whole = timed(call, device, seconds=seconds / 2)
        share = alone.milliseconds / whole.milliseconds
        tokens_per_second = 1000 * setting.bptt * setting.batch_size / whole.milliseconds
        return {
            "row": f"training step, {name} ({described(setting)}), {precision}: ms; tokens/s; recurrent layers alone, "
            "ms (share of the step); ms until the host has handed it over",
            "figure": f"{whole.milliseconds:.3g}; {tokens_per_second:,.0f}; {alone.milliseconds:.3g} ({share:.2f}); "
            f"{whole.host_milliseconds:.3g}",
            "step_ms": whole.milliseconds,
            "host_ms": whole.host_milliseconds,
            "layers_ms": alone.milliseconds,
            "layers_share": share,
            "tokens_per_second": tokens_per_second,
        }

    items = [{"name": name, "precision": precision} for name in settings for precision in PRECISIONS]
    return rows_of("training step", items, measure, until=until)


def described(setting: Setting) -> str:
    """Its sizes in a few words."""
    sizes = setting.config(dropout=False).layer_sizes
    shown = f"{len(sizes)}×{sizes[0]}" if len(set(sizes)) == 1 else "-".join(map(str, sizes))
    return f"LSTM {shown}, V {setting.vocab_size:,}, B {setting.batch_size} × T {setting.bptt}"


def rows_of(what: str, items: list[dict[str, Any]], measure: Callable[..., Row], *, until: float) -> Iterator[Row]:
    """A row for each of ``items``: the arguments of ``measure``, which also gets a share of the remaining seconds.

    A row that failed says so, and so does each for which no time was left before ``until`` (``time.time``).
    """
    for index, item in enumerate(items):
        named = f"{what}: {', '.join(map(str, item.values()))}"
        left = until - time.time()
        if left <= 0:
            yield {"row": named, "figure": "left out: the time was up", **item, "missing": "the time was up"}
            continue
        try:
            yield {**measure(left / (len(items) - index), **item), **item}
        except Exception as error:  # a version or device that cannot do one thing may well do the others
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            yield {"row": named, "figure": f"failed: {reason}", **item, "missing": reason}


def cells(
    hidden_size: int, num_streams: int, lengths: list[int], device: torch.device, *, until: float
) -> Iterator[Row]:
    """Rows of the scan cells and nn.GRU, at equal parameters, in windows of each of ``lengths``: whole updates."""
    wanted = models.num_recurrent(models.build(SIZES, "gru", hidden_size))
    sizes = {cell: hidden_size if cell == "gru" else models.equal_size(SIZES, cell, wanted) for cell in CELLS}
    of_gru: dict[tuple[int, str], float] = {}

    def measure(seconds: float, bptt: int, precision: str, cell: str) -> Row:
        low, model = step_precision(precision), models.build(SIZES, cell, sizes[cell]).to(device)
        setting = Setting(
            {}, {}, vocab_size=SIZES.vocab_size, batch_size=num_streams, bptt=bptt, optimizer="adamw", lr=1e-3
        )
        step = build_step(setting, model, precision=low)
        found = timed(repeated(step, model, on_device(setting, device), setting.lr), device, seconds=seconds / 2)
        if cell == "gru":
            of_gru[bptt, precision] = found.milliseconds
        tokens_per_second = 1000 * bptt * num_streams / found.milliseconds
        first = of_gru.get((bptt, precision))  # None: its row failed
        times = None if first is None else first / found.milliseconds
        return {
            "row": f"{cell} {sizes[cell]} trained, {models.NUM_LAYERS} layers, B {num_streams} × T {bptt:,}, "
            f"{precision}: tokens/s; times nn.GRU",
            "figure": f"{tokens_per_second:,.0f}; {'not known' if times is None else format(times, '.2f')}",
            "hidden_size": sizes[cell],
            "step_ms": found.milliseconds,
            "host_ms": found.host_milliseconds,
            "tokens_per_second": tokens_per_second,
            "times_gru": times,
        }

    items = [
        {"bptt": bptt, "precision": precision, "cell": cell}
        for bptt in lengths for precision in ("tf32", "bf16") for cell in CELLS
    ]  # fmt: skip
    return rows_of("cell trained", items, measure, until=until)
