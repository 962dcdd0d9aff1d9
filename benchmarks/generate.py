"""Words a second that ours and word_language_model's ``generate.py`` as shipped write: ``--peer DIR`` is a copy of it.

    python benchmarks/generate.py --peer ../word_language_model --hidden-size 650

LSTM of two layers, untied, V 10,000, float32 on a CPU, the same random weights in all. ``one stream`` is one text as it
is sampled, ``64 streams`` as many prompts side by side, both from prompt to characters; the two ``onnx`` forms are the
exported file, one stream, only up to the token. Each runs in its own process; they take turns of ``--words`` words.
"""

from __future__ import annotations

import argparse
import itertools
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from turns import cpu_name, median_seconds, pauses, serve, take_turns

from pipeline.compress.measure import writer
from pipeline.compress.onnx_export import export
from pipeline.compress.onnx_model import OnnxModel
from pipeline.config import ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.generate import generate, generate_batch
from pipeline.model.language_model import LanguageModel

VOCAB_SIZE = 10_000
STREAMS = {"peer": 1, "one stream": 1, "64 streams": 64, "onnx-float32": 1, "onnx-int8": 1}
WITHOUT_END = 10**9
WORDS = [f"word{number}" for number in range(VOCAB_SIZE - 1)]  # and <eos>


def our_model(arguments: argparse.Namespace) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(hidden_size=arguments.hidden_size, num_layers=2), VOCAB_SIZE).eval()


def our_tokenizer() -> Tokenizer:
    text = "\n".join(WORDS) + "\n"
    return train_tokenizer(TokenizerConfig(kind="word", vocab_size=VOCAB_SIZE), [text], num_documents=1)


def peer(arguments: argparse.Namespace) -> None:
    """Run its script on its own checkpoint and corpus folder; it reports after each ``words`` words, and waits."""
    ours = our_model(arguments)
    size = arguments.hidden_size
    model = peers.module_of(arguments.peer, "model").RNNModel("LSTM", VOCAB_SIZE, size, size, 2)
    peers.copy_weights(ours, model, ((model.rnn, index) for index in range(2)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "valid", "test"):
            (folder / f"{split}.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        torch.save(model, folder / "model.pt")
        sys.argv = [
            "generate.py", "--data", name, "--checkpoint", str(folder / "model.pt"),
            "--outf", str(folder / "written.txt"), "--words", str(WITHOUT_END),
            "--log-interval", str(arguments.words),
        ]  # fmt: skip
        runpy.run_path(str(Path(arguments.peer) / "generate.py"), {"print": pauses()}, "__main__")


def one_stream(arguments: argparse.Namespace) -> Callable[[], float]:
    pieces = generate(our_model(arguments), our_tokenizer(), "", num_tokens=WITHOUT_END, seed=1)
    return lambda: float(sum(len(piece) for piece in itertools.islice(pieces, arguments.words)))  # a piece a word


def many_streams(arguments: argparse.Namespace) -> Callable[[], float]:
    model, tokenizer = our_model(arguments), our_tokenizer()
    prompts = WORDS[: STREAMS["64 streams"]]
    return lambda: float(
        sum(item.num_tokens for item in generate_batch(model, tokenizer, prompts, num_tokens=arguments.words, seed=1))
    )


def exported(arguments: argparse.Namespace, *, int8: bool) -> Callable[[], float]:
    content = export(our_model(arguments), np.arange(64), int8=int8)
    write = writer(OnnxModel(content, num_threads=arguments.threads))

    def turn() -> float:
        for _ in range(arguments.words):
            write()
        return float(len(content))

    return turn


def work(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    if arguments.worker == "peer":
        peer(arguments)
    elif arguments.worker == "one stream":
        serve(one_stream(arguments))
    elif arguments.worker == "64 streams":
        serve(many_streams(arguments))
    else:
        serve(exported(arguments, int8=arguments.worker == "onnx-int8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="DIR", required=True, help="folder of a copy of word_language_model")
    parser.add_argument("--hidden-size", type=int, default=200, metavar="H")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--words", type=int, default=50, help="of each stream in a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="+", choices=list(STREAMS), default=list(STREAMS))
    parser.add_argument("--worker", choices=list(STREAMS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    if "peer" in arguments.variants and not (Path(arguments.peer) / "generate.py").is_file():
        parser.error(f"--peer: {arguments.peer} has no generate.py")
    report(arguments, take_turns(__file__, sys.argv[1:], arguments.variants, rounds=arguments.rounds, warm_up=1))


def report(arguments: argparse.Namespace, rounds: dict[str, Any]) -> None:
    speed = {name: STREAMS[name] * arguments.words / median_seconds(one) for name, one in rounds.items()}
    first = next(iter(speed))
    print(f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
          f"{arguments.threads} threads; LSTM 2x{arguments.hidden_size}, V {VOCAB_SIZE:,}, medians of "
          f"{arguments.rounds} turns of {arguments.words} words a stream")  # fmt: skip
    print(f"| | words/s | times {first} |\n|---|---|---|")
    for name, value in speed.items():
        print(f"| {name} | {value:,.0f} | {value / speed[first]:.2f} |")
    if {"onnx-float32", "onnx-int8"} <= set(rounds):
        plain, small = (rounds[name][0][1] for name in ("onnx-float32", "onnx-int8"))
        print(f"int8: {speed['onnx-int8'] / speed['onnx-float32']:.2f} times the words/s of float32, "
              f"{small / plain:.3f} of its bytes")  # fmt: skip


if __name__ == "__main__":
    main()
