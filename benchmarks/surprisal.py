"""The speed of word surprisal and of minimal pairs, compared with plain evaluation and with the tools of the field.

    python benchmarks/surprisal.py                  # tables of words, and plain evaluation
    python benchmarks/surprisal.py --tools          # minicons and a loop token by token, on the exported model
    python benchmarks/surprisal.py --blimp FOLDER   # five files of BLiMP, and lm_eval, on the exported model

The first and second use an LSTM 2×256 and a BPE of 8,192 types, the third 2×650 and 10,000 words; all weights are
random. ``--tools`` needs minicons, ``--blimp`` lm_eval, both transformers. Variants take turns in their own processes.
The figures of all sides of a comparison must agree within 1e-4 nats, or the benchmark fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import serve, take_turns

from pipeline import config as configuration
from pipeline.allocator import keep_freed_memory
from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate import HeldOut, evaluate, text_held_out
from pipeline.evaluate.benchmarks.base import read_json_lines, text_in
from pipeline.evaluate.side_by_side import sentence_nats
from pipeline.evaluate.surprisal import surprisal_rows, write_rows
from pipeline.export.checks import offline
from pipeline.export.hugging_face import export_hugging_face
from pipeline.model.language_model import LanguageModel
from pipeline.training.checkpoint import Loaded

SPEEDS = ["plain", "plain, one stream", "preceding", "corrected"]
TOOLS = ["corrected", "minicons, 1 sentence at a time", "minicons, 32", "token by token"]
PAIRS = ["jobs.evaluate's pairs", "lm_eval, batches of 1", "lm_eval, 64"]
PARADIGMS = ["anaphor_number_agreement", "passive_1", "wh_island", "regular_plural_subject_verb_agreement_1",
             "only_npi_scope"]  # fmt: skip
VOCAB_SIZE = 10_000
NUM_TOKENS, NUM_SENTENCES, NUM_PAIRS = 1 << 15, 200, 100
TOLERANCE = 1e-4  # nats


def model_config(hidden_size: int) -> Any:
    values = {"model.hidden_size": hidden_size, "model.embedding_size": hidden_size, "model.num_layers": 2}
    return configuration.with_values(configuration.load(), values)


def bpe_model() -> tuple[LanguageModel, Tokenizer, list[str]]:
    """A model with random weights, its tokenizer, and the words that the tokenizer was trained on."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = model_config(256)
    words = ["".join(random.Random(i).choices("abcdefgh", k=1 + i % 9)) for i in range(9_000)]
    settings = config.tokenizer.model_copy(update={"kind": "bpe", "vocab_size": 8192})
    tokenizer = train_tokenizer(settings, [" ".join(words)] * 2, num_documents=2)
    return LanguageModel(config.model, tokenizer.vocab_size).eval(), tokenizer, words


def word_model(folder: Path) -> tuple[LanguageModel, Tokenizer]:
    """A model with random weights whose 10,000 words are those of the pairs in ``folder``, and numbers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    words = {word for path in folder.glob("*.jsonl") for values in read_json_lines(path)
             for which in ("good", "bad") for word in text_in(values, f"sentence_{which}", "").split()}  # fmt: skip
    text = " ".join([*sorted(words), *map(str, range(VOCAB_SIZE - len(words) - 2))])
    tokenizer = train_tokenizer(TokenizerConfig(kind="word"), [text], num_documents=1)
    return LanguageModel(model_config(650).model, tokenizer.vocab_size).eval(), tokenizer


def by_rank(number: int, num_types: int, seed: int = 1) -> Any:
    """(number,) ids from 0 to ``num_types`` − 1, with the probabilities of words: 1 over their rank (Zipf)."""
    shares = 1 / np.arange(1, num_types + 1)
    return np.random.default_rng(seed).choice(num_types, number, p=shares / shares.sum())


def table_of(model: LanguageModel, tokenizer: Tokenizer, text: HeldOut, convention: str) -> list[float]:
    """Write the table of words and tokens; return the nats of the tokens."""
    nats: list[float] = []

    def noted() -> Iterator[Any]:
        for row in surprisal_rows(model, tokenizer, text, word_boundary=convention):  # type: ignore[arg-type]
            if row.level == "token" and not row.is_end:
                nats.append(row.nats)
            yield row

    with tempfile.TemporaryDirectory() as folder:
        write_rows(str(Path(folder) / "rows.parquet"), noted())
    return nats


def speed_round(name: str) -> Callable[[], float]:
    """A round of plain evaluation, or of a table of words, of the same text; its value is the number of tokens."""
    model, tokenizer, _ = bpe_model()
    ids = by_rank(NUM_TOKENS, tokenizer.vocab_size - 1)
    text = HeldOut(ArrayTokens(ids, np.zeros(1, dtype=np.int64)), None)
    defaults = configuration.load()
    if name.startswith("plain"):
        streams = 1 if "one" in name else defaults.evaluate.streams
        return lambda: float(evaluate(model, text, streams=streams, bptt=defaults.train.bptt).tokens)
    return lambda: float(len(table_of(model, tokenizer, text, name)))


def tools_round(name: str, folder: Path) -> Callable[[], float]:
    """A round over the sentences of ``folder`` with one of the tools, which leaves the nats of all tokens there."""
    torch.set_num_threads(1)
    lines = (folder / "sentences.txt").read_text().splitlines()
    if name == "corrected":
        model, tokenizer, _ = bpe_model()
        source, settings = str(folder / "sentences.txt"), configuration.load().corpus

        def found() -> list[float]:  # from the text on, as the tools
            return table_of(model, tokenizer, text_held_out(tokenizer, source, settings, by_line=True), name)
    elif name.startswith("minicons"):
        from minicons import scorer

        exported = str(folder / "exported")
        theirs = scorer.IncrementalLMScorer(exported, "cpu", tokenizer=exported, trust_remote_code=True)
        size = int(name.split()[1])

        def found() -> list[float]:
            nats: list[float] = []
            for start in range(0, len(lines), size):
                for scored in theirs.token_score(lines[start : start + size], bos_token=True, surprisal=True):
                    nats += [value for _, value in scored[1:]]  # the first is the token that a text begins with
            return nats
    else:
        found = token_by_token(folder, lines)

    return noting(found, folder / f"{name}.npy")


def token_by_token(folder: Path, lines: list[str]) -> Callable[[], list[float]]:
    """A loop as a user would write it: one call of the exported model for each token."""
    with offline() as transformers:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "exported", trust_remote_code=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / "exported", trust_remote_code=True)

    @torch.inference_mode()
    def found() -> list[float]:
        nats = []
        for line in lines:
            cache, before = None, tokenizer.bos_token_id
            for token in tokenizer(line).input_ids:
                output = model(torch.tensor([[before]]), cache=cache, use_cache=True)
                nats.append(-output.logits[0, 0].log_softmax(-1)[token].item())
                cache, before = output.cache, token
        return nats

    return found


def pairs_round(name: str, folder: Path) -> Callable[[], float]:
    """A round over the pairs of ``folder``, which leaves the nats of all sentences there."""
    torch.set_num_threads(1)
    rows = [values for path in sorted(folder.glob("*.jsonl")) for values in read_json_lines(path)]
    texts = [text_in(values, f"sentence_{which}", "") for values in rows for which in ("good", "bad")]
    if name == PAIRS[0]:
        model, tokenizer = word_model(folder)
        found: Callable[[], Any] = lambda: sentence_nats(model, tokenizer, texts)  # noqa: E731
    else:
        found = lm_eval_pairs(folder, int(name.split()[-1]), texts)

    return noting(found, folder / f"{name}.npy")


def noting(nats_of: Callable[[], Any], path: Path) -> Callable[[], float]:
    """A round of ``nats_of``, whose result is saved in ``path``; what it prints goes to standard error."""

    def round_of() -> float:
        with contextlib.redirect_stdout(sys.stderr):
            nats = nats_of()
        np.save(path, nats)
        return float(len(nats))

    return round_of


def lm_eval_pairs(folder: Path, batch_size: int, texts: list[str]) -> Callable[[], list[float]]:
    """The nats from the requests that lm_eval makes for BLiMP's tasks: each sentence after an empty context."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder / "exported"), trust_remote_code=True, device="cpu", batch_size=batch_size)

    def found() -> list[float]:
        # a sentence includes its end here, so the request to lm_eval must too
        requests = [Instance("loglikelihood", {}, ("", text + model.tokenizer.eos_token), i)
                    for i, text in enumerate(texts)]  # fmt: skip
        return [-nats for nats, _ in model.loglikelihood(requests, disable_tqdm=True)]

    return found


def compare(option: str, folder: Path, names: list[str], rounds: int) -> None:
    """Print the time of each of ``names`` as a multiple of the first one's, and fail if its figures are not equal."""
    found = take_turns(__file__, [option, str(folder)], names, rounds=rounds, warm_up=1)
    seconds = {name: statistics.median(seconds for seconds, _ in found[name]) for name in names}
    first = np.load(folder / f"{names[0]}.npy")
    for name in names:
        off = float(np.abs(np.load(folder / f"{name}.npy") - first).max())
        print(f"{name}: {seconds[name]:.3f} s, {seconds[name] / seconds[names[0]]:.2f} of the first; off by {off:.1e}")
        if not off < TOLERANCE:
            raise SystemExit(f"{name} computes different figures")


def compare_tools(rounds: int) -> None:
    model, tokenizer, words = bpe_model()
    drawn = [words[rank] for rank in by_rank(20 * NUM_SENTENCES, len(words))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [" ".join(drawn[i : i + 20]) for i in range(0, len(drawn), 20)]
        (folder / "sentences.txt").write_text("\n".join(lines) + "\n")
        export(model, tokenizer, 256, folder)
        compare("--tools", folder, TOOLS, rounds)


def compare_pairs(blimp: Path, rounds: int) -> None:
    data = blimp / "data" if (blimp / "data").is_dir() else blimp
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for paradigm in PARADIGMS:
            lines = (data / f"{paradigm}.jsonl").read_text(encoding="utf-8").splitlines()[:NUM_PAIRS]
            (folder / f"{paradigm}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        model, tokenizer = word_model(folder)
        export(model, tokenizer, 650, folder)
        compare("--blimp", folder, PAIRS, rounds)


def export(model: LanguageModel, tokenizer: Tokenizer, hidden_size: int, folder: Path) -> None:
    loaded = Loaded(model, tokenizer, model_config(hidden_size), {}, folder)
    export_hugging_face(loaded, folder / "exported", num_texts=20, license_name="unknown")


def compare_with_plain(rounds: int) -> None:
    found = take_turns(__file__, [], SPEEDS, rounds=rounds, warm_up=1)
    speeds = {name: statistics.median(tokens / seconds for seconds, tokens in found[name]) for name in SPEEDS}
    for name, value in speeds.items():
        print(f"{name}: {value:,.0f} tokens/s, {value / speeds['plain']:.2f} of plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="?", const="", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--blimp", metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    keep_freed_memory()  # as every command does
    if arguments.worker:
        if arguments.tools:
            with contextlib.redirect_stdout(sys.stderr):
                asked = tools_round(arguments.worker, Path(arguments.tools))
            serve(asked)
        elif arguments.blimp:
            serve(pairs_round(arguments.worker, Path(arguments.blimp)))
        else:
            serve(speed_round(arguments.worker))
    elif arguments.tools is not None:
        compare_tools(arguments.rounds)
    elif arguments.blimp:
        compare_pairs(Path(arguments.blimp), arguments.rounds)
    else:
        compare_with_plain(arguments.rounds)


if __name__ == "__main__":
    main()
