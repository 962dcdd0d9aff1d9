"""Steps on 8 to 4,096 GPUs, predicted (docs/scaling.md): ``python benchmarks/scaling.py --figure docs/scaling.png``.

benchmarks/scaling.json (see ``scaling_measure``) → the formulas fitted, each model left out once
figures of Puri et al. 2018 → how far off the formulas are
assumptions below → tables for two models on H100s, and their figure
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from scaling_model import (
    Accelerator,
    Cluster,
    Failures,
    Job,
    Link,
    Measured,
    fit,
    fitted_bandwidth,
    predicted,
    speed_up,
    step_seconds,
    with_bandwidth,
)

from pipeline.config import ModelConfig, TrainConfig
from pipeline.model.language_model import LanguageModel
from pipeline.training.utilization import flops_per_token

MEASURED = Path(__file__).with_name("scaling.json")
NUM_GPUS = [8, 64, 512, 4096]
DRAWN = [2**power for power in range(13)]

# Puri et al. 2018 (arXiv 1808.01371): mLSTM of 4,096 on bytes, 128 V100 in 16 DGX-1V, gradients summed in fp16.
# Speed-ups read from its figure for 1 to 128 GPUs, to about ±0.3 (NVIDIA/sentiment-discovery, analysis/scale.md).
PURI_SPEED_UP = {
    "InfiniBand": {32: 27.4, 64: 55.7, 128: 109.1},
    "10 Gb/s Ethernet": {32: 23.5, 64: 45.7, 128: 92.6},
    "InfiniBand, mLSTM of 8,192": {32: 31.3, 64: 61.3, 128: 120.9},
}
PURI_PARAMETERS = (
    4096 * 4096 * 5 + 64 * 4096 * 5 + 4 * 4096 + 256 * (64 + 4096 + 1)
)  # m and four gates; embedding, head
# 32,768 streams over 128 GPUs, 256 bytes a window; 3 epochs of 40 GB in 4 hours on 128 GPUs, 109.1 times as fast as one
PURI_TOKENS = 256 * 256
PURI_SECONDS_ALONE = PURI_TOKENS / (3 * 40e9 / (4 * 3600) / 109.1)
PURI_NETWORK = {"InfiniBand": 4 * 100e9 / 8, "10 Gb/s Ethernet": 10e9 / 8}  # bytes a second of a node

# Assumed for the predictions. A share of the tensor cores' peak: Puri's own figures imply 0.32 of a V100's.
H100 = Accelerator(
    flops=0.25 * 989e12,  # data sheet, bf16 without sparsity
    time_step_seconds=10e-6,  # a fused recurrent kernel that waits for the previous step
    update_seconds=28 / (0.8 * 3.35e12),  # Adam reads 16 and writes 12 bytes; memory bandwidth from the data sheet
)
NVLINK = Link(0.8 * 450e9, 3e-6)  # in one direction, data sheet
NETWORKS = {
    "InfiniBand 8 × 400 Gb/s": Cluster(NVLINK, Link(0.8 * 400e9, 10e-6)),
    "Ethernet 100 Gb/s": Cluster(NVLINK, Link(0.8 * 12.5e9, 10e-6)),
}
# 419 unexpected interruptions in 54 days of 16,384 H100 (Dubey et al. 2024, The Llama 3 Herd of Models, section 3.3.4)
GPU_SECONDS = 16_384 * 54 * 86_400 / 419
COPY_BANDWIDTH = 20e9  # bytes a second from a GPU to the host's memory: training waits for this, not for the write
RESTART_SECONDS = 120.0  # a bare Ray Train start-up takes a quarter of this here; a large cluster was not measured


def job_of(settings: dict[str, Any], vocab_size: int, *, batch_size: int, bptt: int) -> Job:
    """One GPU's part of a step of the model with ``settings``, counted by the code that trains it."""
    config = ModelConfig(**settings)
    with torch.device("meta"):
        model = LanguageModel(config, vocab_size)
    row_size = 0 if config.tie_weights else model.embedding.weight.shape[1]
    return Job(
        num_parameters=model.num_parameters,
        flops_per_token=flops_per_token(model),
        tokens=batch_size * bptt,
        time_steps=3 * bptt * len(config.layer_sizes),  # backward takes two products where forward takes one
        embedding_size=vocab_size * row_size,
        row_size=row_size,
    )


def jobs() -> dict[str, Job]:
    """The two models of the predictions."""
    awd_lstm = {"cell": "lstm", "hidden_size": [1150, 1150, 400], "embedding_size": 400, "tie_weights": True}
    billion = {"cell": "lstm", "hidden_size": [4096, 4096, 512], "embedding_size": 512, "tie_weights": False}
    return {
        "24 million (AWD-LSTM, Penn Treebank)": job_of(awd_lstm, 10_000, batch_size=80, bptt=70),
        "1 billion (One Billion Word)": job_of(billion, 793_471, batch_size=128, bptt=20),
    }


def puri(network: str, bandwidth: float) -> dict[int, float]:
    """Speed-ups of the model of Puri et al. by the formulas, with ``bandwidth`` between nodes."""
    job = Job(PURI_PARAMETERS, 1.0, PURI_TOKENS, 0, gradient_bytes=2)
    v100 = Accelerator(PURI_TOKENS / PURI_SECONDS_ALONE)
    cluster = with_bandwidth(Cluster(Link(150e9), Link(1.0)), bandwidth)  # NVLink, 6 × 25 GB/s in one direction
    return {n: speed_up(job, v100, cluster, n) for n in PURI_SPEED_UP[network]}


def puri_fitted(network: str) -> tuple[float, dict[int, float]]:
    """The bandwidth that the published speed-up on 32 GPUs implies, and the speed-ups that it predicts for more."""
    first = PURI_SPEED_UP[network][32]
    bandwidth = fitted_bandwidth(first, 32, num_bytes=2 * PURI_PARAMETERS, seconds_alone=PURI_SECONDS_ALONE)
    return bandwidth, puri(network, bandwidth)


def failures_of(job: Job) -> Failures:
    """The failures of ``job``, whose checkpoints copy float32 weights and Adam's two moments."""
    return Failures(GPU_SECONDS, 12 * job.num_parameters / COPY_BANDWIDTH, RESTART_SECONDS)


def report_fit(entries: list[dict[str, Any]]) -> None:
    """Print the constants of this machine, and each model's step as the other models predict it."""
    measured = [Measured(**{name: entry[name] for name in Measured.__dataclass_fields__}) for entry in entries]
    machine, cluster = fit(measured)
    print(
        f"here: {machine.flops / 1e9:.1f} GFLOP/s, update {1e9 * machine.update_seconds:.2f} ns a parameter, exchange "
        f"{cluster.within.bandwidth / 1e9:.2f} GB/s, latency {1e3 * cluster.within.latency:.1f} ms"
    )
    for index, (entry, held_out) in enumerate(zip(entries, measured, strict=True)):
        constants = fit(measured[:index] + measured[index + 1 :])
        cells = []
        for workers, real in ((1, held_out.seconds_on_1), (2, held_out.seconds_on_2)):
            guess = predicted(held_out, *constants, workers)
            cells.append(
                f"{workers}: {1e3 * real:6.1f} ms, from the others {1e3 * guess:6.1f} ({guess / real - 1:+.0%})"
            )
        print(f"  2x{entry['hidden_size']}, V {entry['vocab_size']:>6,}  on {'; on '.join(cells)}")


def report_puri() -> None:
    print(f"Puri et al. 2018: {PURI_PARAMETERS / 1e6:.1f} million, {PURI_SECONDS_ALONE:.2f} s a step on one V100")
    for network, published in PURI_SPEED_UP.items():
        print(f"  {network}: published {published}")
        bandwidth, found = puri_fitted(network)
        ways = {"from 32 GPUs on": found}
        if network in PURI_NETWORK:  # with the larger model's own step, its bandwidth would be known too
            ways = {
                f"from 32 GPUs on, {bandwidth / 1e9:.2f} GB/s": found,
                f"data sheet, {PURI_NETWORK[network] / 1e9:.2f} GB/s": puri(network, PURI_NETWORK[network]),
            }
        for name, found in ways.items():
            shown = ", ".join(f"{n}: {s:.1f} ({s / published[n] - 1:+.1%})" for n, s in found.items())
            print(f"    {name}: {shown}")


def report_predictions() -> None:
    for name, job in jobs().items():
        alone = step_seconds(job, H100, NETWORKS["Ethernet 100 Gb/s"], 1)
        print(
            f"{name}: {job.num_parameters / 1e6:,.1f} million, {job.tokens:,} tokens a GPU and step; one GPU: compute "
            f"{1e3 * alone.compute:.1f} ms, update {1e3 * alone.update:.2f} ms"
        )
        lost = failures_of(job)
        for num_gpus in NUM_GPUS:
            interval = lost.daly_interval(num_gpus)
            print(
                f"  N {num_gpus:>5,}: checkpoint every {interval / 60:.1f} min "
                f"(Young {lost.young_interval(num_gpus) / 60:.1f}), useful {lost.useful_share(num_gpus, interval):.2%}"
            )
            for (network, cluster), rows in ((n, r) for n in NETWORKS.items() for r in (False, True)):
                if rows and not job.embedding_size:
                    continue
                step = step_seconds(job, H100, cluster, num_gpus, rows=rows)
                share = speed_up(job, H100, cluster, num_gpus, rows=rows) / num_gpus
                print(
                    f"    {network:<24} {'rows' if rows else 'dense':>5}  exchange {1e3 * step.exchange:>8.2f} ms  "
                    f"efficiency {share:>6.1%}  {num_gpus * job.tokens / step.total:>16,.0f} tokens/s"
                )


def draw(path: Path) -> None:
    """Draw Puri et al. with the formulas; the two models' efficiency; what checkpoints and failures cost them."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--figure: drawing needs matplotlib; pip install 'recurray[figures]'") from None
    figure = Figure(figsize=(12, 4.2), dpi=100, layout="constrained")
    known, efficiency, lost = figure.subplots(1, 3)
    draw_puri(known)
    draw_efficiency(efficiency)
    draw_lost(lost)
    for axes in (known, efficiency, lost):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("GPUs")
        axes.grid(alpha=0.3)
    for axes in (known, efficiency):
        axes.set(ylim=(0, 1.05), ylabel="share of linear scaling")
    figure.savefig(path)


def draw_puri(axes: Any) -> None:
    """Published points; lines as the formulas continue from 32 GPUs; dashes with the data sheet's bandwidth."""
    for index, (network, published) in enumerate(PURI_SPEED_UP.items()):
        axes.plot(list(published), [s / n for n, s in published.items()], "o", color=f"C{index}")
        lines = {network: (puri_fitted(network)[1], "-")}
        if network in PURI_NETWORK:
            lines[f"{network}, data sheet"] = puri(network, PURI_NETWORK[network]), "--"
        for label, (found, style) in lines.items():
            axes.plot(list(found), [s / n for n, s in found.items()], style, color=f"C{index}", label=label)
    axes.set_title("Puri et al. 2018 (points)")
    axes.legend(fontsize=7, loc="lower left")


def draw_efficiency(axes: Any) -> None:
    """Tokens a second over N times those of one GPU."""
    for index, (name, job) in enumerate(jobs().items()):
        size = " ".join(name.split()[:2])
        for (network, cluster), style in zip(NETWORKS.items(), ("-", "--"), strict=True):
            for rows in (False, True) if job.embedding_size else (False,):
                shares = [speed_up(job, H100, cluster, n, rows=rows) / n for n in DRAWN]
                label = f"{size}, {network.split()[0]}{', rows' if rows else ''}"
                axes.plot(DRAWN, shares, style, color=f"C{index + rows}", label=label)
    axes.set_title("two models on H100s")
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0.0, 0.36))


def draw_lost(axes: Any) -> None:
    """Per cent of the time, with the best interval between checkpoints and with the default of train.*."""
    usual = 60 * (TrainConfig().checkpoint_every_minutes or 0)
    for index, (name, job) in enumerate(jobs().items()):
        size, failures = " ".join(name.split()[:2]), failures_of(job)
        for label, style, interval in (("best", "-", None), (f"{usual / 60:g} min", ":", usual)):
            shares = [failures.useful_share(n, interval or failures.daly_interval(n)) for n in DRAWN]
            axes.plot(DRAWN, [100 * (1 - s) for s in shares], style, color=f"C{index}", label=f"{size}, {label}")
    axes.set(yscale="log", title="lost to checkpoints and failures", ylabel="per cent of the time")
    axes.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", metavar="FILE", help="draw there (needs matplotlib)")
    arguments = parser.parse_args()
    report_fit(json.loads(MEASURED.read_text(encoding="utf-8")))
    report_puri()
    report_predictions()
    if arguments.figure:
        draw(Path(arguments.figure))


if __name__ == "__main__":
    main()
