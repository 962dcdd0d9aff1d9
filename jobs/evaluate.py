"""Score held-out text with a trained model: perplexity, nats per token, bits per byte."""

from __future__ import annotations

from typing import Any

from jobs.cli import parser, run_job


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments_parser = parser("evaluate", __doc__ or "", takes_config=False)
    arguments_parser.add_argument("--run", required=True, metavar="DIR", help="run directory of jobs.train")
    arguments_parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    what = arguments_parser.add_mutually_exclusive_group()
    what.add_argument("--split", choices=["valid", "test"], default="valid", help="of the prepared corpus")
    what.add_argument("--text", metavar="FILE", help="any text file instead")
    arguments_parser.add_argument("--streams", type=int, help="parallel streams; default: evaluate.streams of the run")
    arguments_parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = arguments_parser.parse_args(argv)

    from pipeline import run
    from pipeline.data.streams import ResetRule
    from pipeline.evaluate import evaluate, split_held_out, text_held_out
    from pipeline.training import checkpoint

    if arguments.streams is not None and arguments.streams < 1:
        raise ValueError(f"--streams: {arguments.streams} is below 1")
    path = checkpoint.find(arguments.run, arguments.checkpoint)
    loaded = checkpoint.load_model(path, run.resolve_device(arguments.device))
    if arguments.text is not None:
        text = text_held_out(loaded.tokenizer, arguments.text)
    else:
        text = split_held_out(run.corpus_of(loaded), arguments.split)
    score = evaluate(
        loaded.model,
        text,
        streams=arguments.streams or loaded.config.evaluate.streams,
        bptt=loaded.config.train.bptt,
        reset=ResetRule.of(loaded.config.train),
        precision=loaded.config.train.precision,
    )
    name = arguments.text or f"the {arguments.split} split"
    print(
        f"{path.name} ({arguments.checkpoint}) on {name}: {score.tokens:,} tokens in {score.num_parts:,} {score.layout}"
    )
    print(f"perplexity {score.perplexity:,.3f}, {score.nats_per_token:.4f} nats per token")
    if score.bits_per_byte is not None:
        print(f"{score.bits_per_byte:.4f} bits per byte")
    else:
        print(f"no bits per byte: {score.why_not}")
    return {
        "perplexity": score.perplexity,
        "nats_per_token": score.nats_per_token,
        "bits_per_byte": score.bits_per_byte,
        "tokens": score.tokens,
        score.layout: score.num_parts,
        "checkpoint": str(path),
    }


if __name__ == "__main__":
    run_job(main)
