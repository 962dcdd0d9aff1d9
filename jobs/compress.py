"""Make smaller forms of a trained model, and one table of what each takes and costs.

float32 and bf16 weights as model folders, ONNX in float32 (checked against torch) and int8, and weights pruned by
magnitude. ``--output`` gets a folder of each, ``table.md`` and ``table.json``.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from jobs.cli import parser, run_job


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments_parser = parser("compress", __doc__ or "", takes_config=False)
    arguments_parser.add_argument("--run", required=True, metavar="DIR", help="run directory of jobs.train")
    arguments_parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    arguments_parser.add_argument("--output", metavar="DIR", help="default: compressed in the run directory")
    arguments_parser.add_argument("--split", choices=["valid", "test"], default="valid", help="what is scored")
    arguments_parser.add_argument("--prune", type=float, nargs="*", default=[0.5], metavar="SHARE")
    arguments_parser.add_argument("--scope", choices=["matrix", "all"], default="matrix", help="see prune.scope")
    arguments_parser.add_argument("--tokens", type=int, default=200, metavar="N", help="tokens timed for each variant")
    arguments = arguments_parser.parse_args(argv)

    from pipeline import run
    from pipeline.compress.measure import perplexity, seconds_per_token
    from pipeline.compress.variants import make_variants
    from pipeline.training import checkpoint

    for share in arguments.prune:
        if not 0 <= share < 1:
            raise ValueError(f"--prune: {share} is not in [0, 1)")
    if arguments.tokens < 1:
        raise ValueError(f"--tokens: {arguments.tokens} is below 1")
    loaded = checkpoint.load_model(checkpoint.find(arguments.run, arguments.checkpoint))
    corpus = run.corpus_of(loaded)
    if arguments.split not in corpus.splits:
        raise ValueError(f"--split: the prepared corpus has no {arguments.split} split")
    tokens = corpus.splits[arguments.split]
    ids = tokens[: len(tokens)]
    output = Path(arguments.output or Path(arguments.run) / "compressed")
    variants, left_out = make_variants(loaded, ids, output, shares=arguments.prune, scope=arguments.scope)
    if left_out:
        print(left_out)
    seconds = seconds_per_token({variant.name: variant.model for variant in variants}, arguments.tokens)
    rows = []
    for variant in variants:
        times = seconds[variant.name]
        figures = {"bytes": variant.bytes, "perplexity": perplexity(variant, ids)}
        speed = {"tokens_per_second": len(times) / sum(times), "milliseconds": 1000 * statistics.median(times)}
        rows.append({"variant": variant.name, **figures, **speed})
    table = table_of(rows)
    (output / "table.md").write_text(table, encoding="utf-8")
    (output / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table + f"written to {output}")
    return {"variants": rows, "output": str(output)}


def table_of(rows: list[dict[str, Any]]) -> str:
    """``rows`` as Markdown."""
    lines = ["| variant | bytes | perplexity | tokens/s | ms per token, median |", "|---|---|---|---|---|"]
    for row in rows:
        speed = f"{row['tokens_per_second']:,.0f} | {row['milliseconds']:.3f}"
        lines.append(f"| {row['variant']} | {row['bytes']:,} | {row['perplexity']:,.2f} | {speed} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_job(main)
