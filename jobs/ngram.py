"""Train an n-gram model, the baseline for recurrent models.

Counts the words of a corpus's training split, smooths the counts (modified
Kneser-Ney, Chen & Goodman 1998) and prints the perplexity of held-out text.
"""

from __future__ import annotations

import argparse
from typing import Any

from jobs.shared import early
from jobs.shared.cli import run_job
from jobs.shared.numbers import whole
from jobs.shared.options import parser
from pipeline.errors import UserError
from pipeline.files import check_writable

MOST_WORDS = 5


def main(argv: list[str]) -> dict[str, Any] | None:
    arguments = argument_parser().parse_args(argv)
    if not 1 <= arguments.order <= MOST_WORDS:
        raise UserError(f"--order: {arguments.order} is not from 1 to {MOST_WORDS}")
    early.check_prepared(arguments.data, argument="data")

    from pipeline import metrics
    from pipeline.data.shards import open_prepared
    from pipeline.ngram import held_out_nats, train_ngram, training_text, write_arpa

    corpus = open_prepared(arguments.data)
    split = arguments.split
    if split is not None and split not in corpus.splits:
        raise UserError(f"--split: the prepared corpus has no {split} split (corpus.{split}, corpus.{split}_fraction)")
    if arguments.to is not None:
        check_writable(arguments.to, argument="to")
    text = training_text(corpus.splits["train"], corpus.tokenizer)
    model = train_ngram(text, arguments.order)
    numbers = ", ".join(f"{number:,} of {n}" for n, number in enumerate(model.num_ngrams, start=1))
    print(f"n-grams of {len(text.words):,} words: {numbers}")
    for n in model.orders_without_discounts:
        print(f"note: how many {n}-grams occur once to four times gives no discounts; 0.5, 1 and 1.5 are used")
    result: dict[str, Any] = {
        "order": model.order,
        "ngrams": model.num_ngrams,
        "discounts": model.discounts,
        "orders_without_discounts": model.orders_without_discounts,
    }
    split = split or next((name for name in ("valid", "test") if name in corpus.splits), None)
    if split is not None:
        found = held_out_nats(model, training_text(corpus.splits[split], corpus.tokenizer))
        perplexity = metrics.perplexity(found.nats, found.words)
        print(f"{split}: perplexity {metrics.shown(perplexity)} of {found.words:,} words and sentence ends")
        if found.unknown:
            print(f"  {found.unknown:,} of them are unknown, and counted as <unk>")
        result |= {"split": split, "perplexity": perplexity, "words": found.words, "unknown": found.unknown}
    if arguments.to is not None:
        write_arpa(model, arguments.to, argument="to")
        print(f"model: {arguments.to}")
    return {**result, "to": arguments.to}


def argument_parser() -> argparse.ArgumentParser:
    result = parser("ngram", __doc__ or "", takes_config=False)
    result.add_argument("--data", required=True, metavar="DIR", help="a prepared corpus; its train split is counted")
    result.add_argument("--order", type=whole, default=5, metavar="N", help="words of the longest n-gram; default: 5")
    result.add_argument(
        "--split", choices=["valid", "test"], help="the split that is scored; default: valid, else test"
    )
    result.add_argument("--to", metavar="FILE", help="write the model in the ARPA format")
    return result


if __name__ == "__main__":
    run_job(main)
