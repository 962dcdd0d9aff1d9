"""What a preparation would give, counted without writing anything: for dry runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import chain

import numpy as np

from pipeline.config import Config
from pipeline.data.corpus import texts_of
from pipeline.data.corpus.deduplication import deduplicated, is_needed
from pipeline.data.corpus.slices import mixture_of, num_bytes_of
from pipeline.data.directory import OtherCorpusError, check_apart
from pipeline.data.document_pools import check_ends, document_lengths
from pipeline.data.emptiness import check_has_tokens, check_weighted
from pipeline.data.planning import plan, tokens_by_pattern
from pipeline.data.prepare import in_process
from pipeline.data.readers import Tally
from pipeline.data.reuse import Splits, find_prepared, wanted_corpus
from pipeline.data.shards import PreparedCorpus
from pipeline.data.tasks import encoded
from pipeline.data.tokenizer import DEFAULT_BPE_VOCAB_SIZE, Ids, Tokenizer
from pipeline.data.tokenizer.training import resolve_eos
from pipeline.data.vocabulary import num_documents_of, tokenizer_of
from pipeline.errors import Notice


@dataclass(frozen=True)
class Counts:
    """What a preparation would give: tokens of each split, types, and the training documents if they are the layout."""

    tokens: dict[str, int]
    vocab_size: int
    is_exact: bool
    lengths: Ids | None = None  # tokens of each training document
    prepared: PreparedCorpus | None = None  # None: not prepared
    tokenizer: Tokenizer | None = None  # None: it would be learnt first


def count_tokens(config: Config) -> Counts:
    """Count without writing anything.

    The counts are those of the manifest if the corpus is prepared, else made in memory; for BPE the tokens are
    estimated at four bytes each, and the vocabulary is the one asked for. A notice says if a preparation would be
    refused because the directory holds another corpus.

    Raises:
        UserError: as ``prepare``, as far as that can be seen without tokens if these are estimated.
    """
    wants_lengths = config.data.layout == "documents"
    wanted = wanted_corpus(config)
    try:
        found = find_prepared(config, wanted, map_tasks=in_process, say=lambda sentence: None, writes=False)
        if found is not None:
            counts = {split: len(tokens) for split, tokens in found.splits.items()}
            lengths = document_lengths(found.splits["train"]) if wants_lengths else None
            return Counts(counts, found.vocab_size, True, lengths, found, found.tokenizer)
    except OtherCorpusError as error:
        warnings.warn(f"only a dry run goes on here: {error}", Notice, stacklevel=2)
    check_apart(str(config.data.directory), config.corpus)
    splits = wanted.texts
    if is_needed(config.corpus):
        splits, _ = deduplicated(splits, config.corpus, in_process)
    if config.tokenizer.kind == "bpe":
        return estimated(config, splits)
    tokenizer = tokenizer_of(splits["train"], config.tokenizer, in_process)
    counts, of_ranges = dict.fromkeys(splits, 0), dict[str, int]()
    found_starts: list[Ids] = []
    ranges = plan(tokenizer, splits, config)
    for item in ranges:
        before = counts[item.split]
        for ids, starts in encoded(tokenizer, item, Tally()):
            if wants_lengths and item.split == "train":
                found_starts.append(starts + counts["train"])
            counts[item.split] += len(ids)
        of_ranges[item.name] = counts[item.split] - before
    for split, number in counts.items():
        check_has_tokens(split, number, num_bytes=num_bytes_of(splits[split]), corpus=config.corpus)
    check_weighted(tokens_by_pattern(ranges, of_ranges), config.corpus)
    lengths = np.diff(np.concatenate(found_starts), append=counts["train"]) if found_starts else None
    return Counts(counts, tokenizer.vocab_size, True, lengths, tokenizer=tokenizer)


def estimated(config: Config, splits: Splits) -> Counts:
    """Counts of BPE tokens, at four bytes each. Raises ``UserError`` as ``count_tokens``."""
    corpus = config.corpus
    mixtures = {split: mixture_of(own, corpus.weights if split == "train" else None) for split, own in splits.items()}
    counts = {split: num_bytes_of(list(chain(*mixture))) // 4 for split, mixture in mixtures.items()}
    for split, mixture in mixtures.items():
        # a text of which nothing is left by filters, or by the share of its documents, has no token
        has_text = [any(texts_of(slices)) for slices in mixture]
        check_has_tokens(split, any(has_text), num_bytes=num_bytes_of(splits[split]), corpus=corpus)
        if split == "train":
            check_weighted(dict(enumerate(has_text)), corpus)
    if config.data.layout == "documents" and config.tokenizer.path is None:
        check_ends(resolve_eos(config.tokenizer, num_documents=num_documents_of(splits["train"])))
    vocab_size, tokenizer = config.tokenizer.vocab_size or DEFAULT_BPE_VOCAB_SIZE, None
    if config.tokenizer.path is not None:
        tokenizer = tokenizer_of(splits["train"], config.tokenizer, in_process)
        vocab_size = tokenizer.vocab_size
    lengths = None
    if config.data.layout == "documents":
        texts = texts_of(chain(*mixtures["train"]))
        lengths = np.array([len(text.encode()) // 4 + 1 for text in texts])
    return Counts(counts, vocab_size, False, lengths, tokenizer=tokenizer)
