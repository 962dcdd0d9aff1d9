"""Options of ``jobs.evaluate`` that were given but have no effect together with the others."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import fields

from jobs.shared.early import TABLES, note
from jobs.shared.options import refuse_given
from pipeline.errors import UserError
from pipeline.options import Sampling

CONTINUATIONS = ("prompt_tokens", "continuation_tokens", *(field.name for field in fields(Sampling)))
CACHE = ("cache_theta", "cache_weight", "cache_window")
DYNAMIC = ("dynamic_lr", "dynamic_decay")
# which text is read, and how
TEXT = ("text", "stimuli", "split")


def check_given(arguments: argparse.Namespace, parser: argparse.ArgumentParser, *, asks_for_perplexity: bool) -> None:
    """Raise ``UserError`` for an option that none of the requested measures uses.

    Args:
        parser: the parser of ``arguments``.
        asks_for_perplexity: perplexity is measured, with a model that does not keep learning.
    """

    def refuse(names: Iterable[str], sentence: str) -> None:
        refuse_given(arguments, parser, names, sentence)

    if arguments.bleu is None:
        refuse(CONTINUATIONS, "is for --bleu; give that as well")
    if not arguments.cache:
        refuse(CACHE, "is for --cache; give that as well")
    if arguments.dynamic is None and arguments.adapt is None:
        refuse(DYNAMIC, "is for --dynamic or --adapt; give one as well")
    if arguments.dynamic != "rms":
        refuse(["dynamic_epsilon"], "is for --dynamic rms; give that as well")
    if arguments.dynamic is None or (arguments.adapt is not None and not arguments.cache):
        refuse(["dynamic_segment"], "is for --dynamic, without --adapt; give that as well")
    if arguments.tune:
        refuse((*CACHE, *DYNAMIC), "is what --tune finds; leave it out")
    if arguments.text is not None and arguments.text.lower().endswith(TABLES):
        note([f"--text: {arguments.text} is read as plain text, header and all; --stimuli reads its columns"])
    reads_text = arguments.surprisal is not None or arguments.bleu is not None or arguments.cache
    reads_text = reads_text or asks_for_perplexity or arguments.dynamic is not None
    if not reads_text:
        refuse(TEXT, "--pairs and --benchmark have texts of their own; leave it out")
    if not asks_for_perplexity and arguments.streams not in (None, 1):
        raise UserError("--streams: is for perplexity; the other measures read one stream")
    if not asks_for_perplexity:
        refuse(["burn_in"], "is for perplexity, which is not asked for")
