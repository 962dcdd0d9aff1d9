"""Training steps timed on a GPU, in at most eight minutes: one table for RESULTS.md, and all figures as JSON.

    python benchmarks/gpu.py --corpus PENN_TREEBANK --output DIR
    python benchmarks/gpu.py --parts steps graphs --seconds 120 --output DIR
    python benchmarks/gpu.py --device cpu --parts guard --output DIR    # a look without a GPU

It needs torch 2.11 or newer with CUDA, numpy, pydantic and, for ``recipe``, PyYAML, and uses only the Ray-free part of
the project: neither Ray nor pyarrow, datasets, tokenizers or safetensors. Each part has its own process and its own
share of ``--seconds``, so that one that fails, hangs or loses the device does not affect the others:

steps    four shapes in float32, TF32 and bf16: a step, and cuDNN's LSTM by itself, forward and backward
guard    whether a step waits for the device, for every cell, head, optimizer and clipping
graphs   the same steps as CUDA graphs
cells    mingru, minlstm and qrnn compared with nn.GRU at equal parameters, by the length of windows
recipe   the first five minutes of configs/ptb-awd-lstm.yaml on ``--corpus`` (a folder with train.txt and valid.txt, or
         ptb.train.txt and ptb.valid.txt), its progress in recipe.csv
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

# shares of the time; of 480 s, the last share leaves five minutes of training after its start-up
PARTS = {"steps": 65, "guard": 25, "graphs": 45, "cells": 35, "recipe": 310}
# of a part's time: what its process is told to use, before it is stopped at the end
OWN_SHARE = 0.96
LEAST_TORCH = (2, 11)
GUARDED_SIZES = {"hidden_size": 200, "num_layers": 2}

Row = dict[str, Any]


def measured(part: str, arguments: argparse.Namespace, *, until: float) -> Iterator[Row]:
    """The rows of ``part``, measured in this process until the time ``until`` (``time.time``)."""
    import torch
    from training_step import SETTINGS, Setting

    device = torch.device(arguments.device)
    if part == "steps":
        from gpu_parts import steps

        return steps(SETTINGS, device, until=until)
    if part == "guard":
        from gpu_guard import guard

        return guard(Setting(GUARDED_SIZES, {}), device, until=until)
    if part == "graphs":
        from gpu_graph import graphs

        return graphs(SETTINGS, device, until=until)
    if part == "cells":
        from gpu_parts import cells

        return cells(512, 32, [128, 512, 2048], device, until=until)
    from gpu_recipe import recipe

    from pipeline.config import load

    config = load(arguments.recipe, arguments.settings)
    return recipe(config, Path(arguments.corpus), Path(arguments.output) / "recipe.csv", device, until=until)


def run_part(command: Sequence[str], *, seconds: float) -> tuple[list[Row], str]:
    """Run ``command``, which prints a row of JSON a line; return its rows, and why there are no more.

    It is stopped after ``seconds``; the rows that it wrote before it failed or was stopped are kept.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, text=True)
        failure = ""
        try:
            if process.wait(timeout=seconds):
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["it said nothing"]
                failure = f"ended with exit code {process.returncode}: {lines[-1]}"
        except subprocess.TimeoutExpired:
            failure = f"stopped after its {seconds:.0f} s"
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        rows = []
        for line in output:
            with suppress(json.JSONDecodeError):  # the last line of a stopped process may be incomplete
                rows.append(json.loads(line))
    return rows, failure


def machine(device: str) -> dict[str, str]:
    """What the figures depend on besides the code; the commit is empty outside a clone."""
    import torch

    properties = {"torch": torch.__version__, "date": datetime.now(UTC).date().isoformat()}
    if device.startswith("cuda"):
        properties |= {
            "device": torch.cuda.get_device_name(device),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }
    else:
        from turns import cpu_name

        properties["device"] = cpu_name()
    with suppress(OSError):
        command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
        properties["commit"] = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return properties


def table(found: dict[str, Any], command: str) -> str:
    """The rows of all parts as one table with the columns of RESULTS.md; missing parts say why."""
    where = found["machine"]
    end = f"`{where['device']}` | {where['date']} | {where.get('commit', '')} | `{command}` |"
    lines = ["| row | goal | figure | machine | date | commit | command |", "|---|---|---|---|---|---|---|"]
    for part, result in found["parts"].items():
        rows = [(row["row"], row["figure"]) for row in result["rows"]]
        if result["failure"]:
            rows.append((f"part `{part}`", result["failure"]))
        lines += [f"| {_cell(row)} | | {_cell(figure)} | {end}" for row, figure in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def problem(arguments: argparse.Namespace) -> str:
    """What prevents every part from running, in a sentence; empty if nothing does."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < LEAST_TORCH:
        return f"torch {torch.__version__} is older than {'.'.join(map(str, LEAST_TORCH))}"
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        return "torch finds no CUDA device here; --device cpu tries what a CPU can"
    return ""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together; less if parts are left out")
    parser.add_argument("--corpus", metavar="DIR", help="Penn Treebank; without it recipe is left out")
    parser.add_argument("--recipe", default=str(REPOSITORY / "configs" / "ptb-awd-lstm.yaml"), metavar="FILE")
    parser.add_argument("--settings", nargs="*", default=[], help="of the recipe, as section.field=value")
    parser.add_argument("--output", default=".", metavar="DIR", help="for gpu.md, gpu.json and recipe.csv")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--worker", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.seconds <= 0:
        parser.error(f"--seconds must be above 0, not {arguments.seconds:g}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    started, given = time.time(), sys.argv[1:] if argv is None else list(argv)
    arguments = parse(given)
    if arguments.worker:
        for row in measured(arguments.worker, arguments, until=arguments.until):
            print(json.dumps(row), flush=True)
        return
    if sentence := problem(arguments):
        print(sentence, file=sys.stderr)
        raise SystemExit(2)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine(arguments.device), "parts": {}}
    whole = arguments.seconds - (time.time() - started)  # loading torch and finding the device have taken the rest
    for part in arguments.parts:
        if part == "recipe" and arguments.corpus is None:
            rows, failure, taken = [], "left out: --corpus names no folder with Penn Treebank", 0.0
        else:
            began, seconds = time.time(), whole * PARTS[part] / sum(PARTS.values())
            until = began + OWN_SHARE * seconds
            command = [sys.executable, __file__, *given, "--worker", part, "--until", str(until)]
            rows, failure = run_part(command, seconds=seconds)
            taken = time.time() - began
        found["parts"][part] = {"rows": rows, "failure": failure, "seconds": taken}
        print(f"{part}: {len(rows)} rows in {taken:.0f} s{f'; {failure}' if failure else ''}", file=sys.stderr)
        # after each part, so that nothing is lost
        (output / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (output / "gpu.md").write_text(table(found, "python benchmarks/gpu.py"), encoding="utf-8")
    print(table(found, "python benchmarks/gpu.py"), end="")


if __name__ == "__main__":
    main()
