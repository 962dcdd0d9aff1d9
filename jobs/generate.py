"""Write text after one prompt or many, or in a conversation.

The same seed gives the same text for a prompt, whatever is written beside it.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs.shared import models
from jobs.shared.cli import run_job
from jobs.shared.models import add_device, add_run, device_of, load
from jobs.shared.numbers import number, seed, whole
from jobs.shared.options import add_sampling, parser, refuse_given, sampling_of
from pipeline.errors import UserError
from pipeline.files import check_writable
from pipeline.options import Sampling, check_beams

# texts are kept in memory until all are written
MOST_TEXTS = 1_000_000


def main(argv: list[str]) -> dict[str, Any] | None:
    options = argument_parser()
    arguments = options.parse_args(argv)
    sampling = sampling_of(arguments)
    check(arguments, options)
    models.check(arguments)
    if arguments.output is not None:
        check_writable(arguments.output, argument="output")

    from jobs.terminal.conversation import Conversation
    from pipeline.generate import UntilStop, read_prompts
    from pipeline.model.precision import set_tf32

    UntilStop(arguments.stop)
    prompts = read_prompts(arguments.prompts) if arguments.prompts is not None else [arguments.prompt or ""]
    check_number(len(prompts), arguments.samples)
    loaded = load(arguments.run, arguments, device_of(arguments))
    set_tf32(loaded.config.train.tf32)
    facts = {"seed": arguments.seed, "checkpoint": str(loaded.path)}
    stops = tuple(arguments.stop)
    layout = loaded.config.data.layout
    one = Conversation(loaded.model, loaded.tokenizer, arguments.tokens, arguments.seed, sampling, stops, layout)
    if arguments.interactive:
        one.run()
        return facts
    if arguments.beams is not None:
        return {**facts, **search(loaded, prompts, arguments)}
    if arguments.prompts is None and arguments.samples == 1 and arguments.output is None:
        text, num_tokens = one.show(prompts[0])
        return {"text": prompts[0] + text, "tokens": num_tokens, **facts}
    return {**facts, **write_all(loaded, prompts, arguments, sampling)}


def check(arguments: argparse.Namespace, options: argparse.ArgumentParser) -> None:
    """Raise ``UserError`` if one of ``options`` is out of its range or does not go with another one."""
    sampling = sampling_of(arguments)
    for name in ("tokens", "samples", "at_once"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}: {getattr(arguments, name)} is below 1")
    if arguments.prompt == "":
        raise UserError("--prompt: is empty; leave it out to begin as after the end of a line")
    if arguments.beams is not None:
        check_beams(arguments.beams, arguments.length_penalty)
        if sampling != Sampling() or arguments.samples > 1 or arguments.interactive:
            raise UserError("--beams: a beam search draws nothing; leave out the options of sampling")
    else:
        refuse_given(arguments, options, ["length_penalty"], "is for --beams; give that as well")
    if arguments.interactive:
        refuse_given(arguments, options, ["samples"], "a conversation has one text after each prompt")
        if arguments.output is not None:
            raise UserError("--output: a conversation is not saved; give --prompt or --prompts")
    check_number(1, arguments.samples)


def check_number(num_prompts: int, samples: int) -> None:
    """Raise ``UserError`` if there are more texts than memory should hold."""
    if num_prompts * samples > MOST_TEXTS:
        raise UserError(f"--samples: {samples} texts for each prompt are more than {MOST_TEXTS:,} in all")


def argument_parser() -> argparse.ArgumentParser:
    result = parser("generate", __doc__ or "", takes_config=False)
    add_run(result)
    source = result.add_mutually_exclusive_group()
    source.add_argument("--prompt", metavar="TEXT", help="beginning of the text; default: the end of a line")
    source.add_argument("--prompts", metavar="FILE", help="a text file with one prompt a line")
    source.add_argument("--interactive", action="store_true", help="read prompts from the terminal")
    result.add_argument("--output", metavar="FILE", help="save the texts there, too, as JSON Lines")
    result.add_argument(
        "--tokens", type=whole, default=200, metavar="N", help="tokens to write for each prompt; default: 200"
    )
    result.add_argument("--samples", type=whole, default=1, metavar="N", help="texts for each prompt; default: 1")
    result.add_argument(
        "--at-once", type=whole, default=64, metavar="N", help="texts written side by side; default: 64"
    )
    result.add_argument(
        "--seed", type=seed, default=1, metavar="S", help="the same seed gives the same text; default: 1"
    )
    add_sampling(result)
    result.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    result.add_argument("--beams", type=whole, metavar="K", help="search for the likeliest text with K beams")
    result.add_argument(
        "--length-penalty", type=number, default=1.0, metavar="X", help="compare log-probability ÷ length^X; default: 1"
    )
    add_device(result)
    return result


def write_all(loaded: Any, prompts: list[str], arguments: argparse.Namespace, sampling: Any) -> dict[str, Any]:
    """Continue all prompts, many at once, and show each text as soon as it is complete."""
    from pipeline.generate import generate_batch

    rows: list[dict[str, Any]] = []
    for item in generate_batch(
        loaded.model,
        loaded.tokenizer,
        prompts * arguments.samples,
        num_tokens=arguments.tokens,
        seed=arguments.seed,
        sampling=sampling,
        stops=arguments.stop,
        layout=loaded.config.data.layout,
        at_once=arguments.at_once,
    ):
        sample, prompt = (number + 1 for number in divmod(item.index, len(prompts)))
        parts = [f"prompt {prompt}"] * (len(prompts) > 1) + [f"sample {sample}"] * (arguments.samples > 1)
        heading = f"[{', '.join(parts)}]\n" if parts else ""
        print(("\n" if rows else "") + heading + item.prompt + item.text, flush=True)
        rows.append({"prompt": item.prompt, "sample": sample, "text": item.text, "tokens": item.num_tokens})
    return result_of(rows, arguments)


def search(loaded: Any, prompts: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Search for the likeliest text after each prompt, and show it."""
    from pipeline.generate import likeliest_texts

    rows: list[dict[str, Any]] = []
    texts = likeliest_texts(
        loaded.model,
        loaded.tokenizer,
        prompts,
        num_tokens=arguments.tokens,
        num_beams=arguments.beams,
        length_penalty=arguments.length_penalty,
        stops=arguments.stop,
        layout=loaded.config.data.layout,
    )
    for prompt, (text, found) in zip(prompts, texts, strict=True):
        print(f"{prompt}{text.rstrip()}\n({found.log_probability:.3f} nats, score {found.score:.4f})", flush=True)
        figures = {"log_probability": found.log_probability, "score": found.score}
        rows.append({"prompt": prompt, "text": text, "tokens": len(found.tokens), **figures})
    return result_of(rows, arguments)


def result_of(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Save ``rows`` where ``--output`` says, and return the job's result."""
    from pipeline.generate import save_rows

    if arguments.output is not None:
        save_rows(arguments.output, rows)
    return {"texts": rows, "tokens": sum(row["tokens"] for row in rows)}


if __name__ == "__main__":
    run_job(main)
