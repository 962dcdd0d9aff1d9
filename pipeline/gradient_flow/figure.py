"""Draw the gradient flow of several models: the share of the gradient that is left after k steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.events import EventFile
from pipeline.files import new_folder
from pipeline.gradient_flow.measure import GradientFlow

# the smallest share shown
FLOOR = 1e-6


def draw(flows: Mapping[str, GradientFlow], *, threshold: float) -> Any:
    """Return a matplotlib figure of ``flows`` by name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, flow in flows.items():
        steps = np.arange(1, len(flow.shares) + 1)
        (line,) = axes.plot(steps, flow.shares, label=name)
        if (end := flow.horizon(threshold)) is not None:
            axes.axvline(end, color=line.get_color(), linestyle=":", linewidth=1)
    axes.axhline(threshold, color="grey", linestyle="--", linewidth=1, label=f"{threshold:.3g} of the gradient")
    axes.set(yscale="log", xlabel="k, steps back", ylabel="‖∂loss(t)/∂state(t−k)‖ over that at k = 1")
    axes.margins(x=0.01)
    shares = [share for flow in flows.values() for share in flow.shares]
    axes.set_ylim(max(FLOOR, 0.7 * min(*shares, threshold)), 1.5 * max(shares))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def write_tensorboard(directory: str | Path, flow: GradientFlow, figure: Any) -> Path:
    """Write curves of ``flow`` over k, and the ``figure``, into a folder of the run ``directory`` for TensorBoard.

    Raises:
        UnwritableError: the folder cannot be written; an earlier one is kept.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from torch.utils.tensorboard.summary import image

    folder = Path(directory) / "gradient_flow"
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # (height, width, 3)
    with new_folder(folder, argument="tensorboard") as temporary:
        events = EventFile(temporary)
        for k, (norm, share) in enumerate(zip(flow.norms, flow.shares, strict=True), start=1):
            points = [("gradient_flow/norm", norm), ("gradient_flow/share", share)]
            events.scalars(points, step=k, when=time.time())
        events.summary(image("gradient_flow", torch.from_numpy(pixels.copy()), dataformats="HWC"))
        events.finish()
    return folder
