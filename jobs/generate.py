"""Write text with a trained model, from a prompt."""

from __future__ import annotations

from typing import Any

from jobs.cli import parser, run_job


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments_parser = parser("generate", __doc__ or "", takes_config=False)
    arguments_parser.add_argument("--run", required=True, metavar="DIR", help="run directory of jobs.train")
    arguments_parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    arguments_parser.add_argument("--prompt", default="", help="what the text begins with")
    arguments_parser.add_argument("--tokens", type=int, default=200, metavar="N", help="tokens to write")
    arguments_parser.add_argument("--seed", type=int, default=1, metavar="S", help="the same seed, the same text")
    arguments_parser.add_argument("--temperature", type=float, default=1.0, help="below 1: safer; 0: likeliest only")
    arguments_parser.add_argument("--top-k", type=int, help="draw from the k likeliest tokens")
    arguments_parser.add_argument("--top-p", type=float, help="draw from the likeliest that make up this probability")
    arguments_parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = arguments_parser.parse_args(argv)

    from pipeline import run
    from pipeline.generate import Sampling, generate
    from pipeline.training import checkpoint

    if arguments.tokens < 1:
        raise ValueError(f"--tokens: {arguments.tokens} is below 1")
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    path = checkpoint.find(arguments.run, arguments.checkpoint)
    loaded = checkpoint.load_model(path, run.resolve_device(arguments.device))
    pieces = generate(
        loaded.model,
        loaded.tokenizer,
        arguments.prompt,
        num_tokens=arguments.tokens,
        seed=arguments.seed,
        sampling=sampling,
    )
    print(arguments.prompt, end="", flush=True)
    text = arguments.prompt
    for piece in pieces:
        print(piece, end="", flush=True)
        text += piece
    print()
    return {"text": text, "tokens": arguments.tokens, "seed": arguments.seed, "checkpoint": str(path)}


if __name__ == "__main__":
    run_job(main)
