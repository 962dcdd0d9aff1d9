"""A corpus → a tokenizer → ranges → one shard a range → the manifest. Ray-free: any map over the tasks will do.

Ranges are cut by source bytes at places that the tokenizer calls safe, never by the number of workers, so the same
corpus and settings give the same bytes, however many make them. What an interrupted preparation finished is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.config import Config
from pipeline.data.corpus.cutting import group
from pipeline.data.corpus.documents import Reading, Tally
from pipeline.data.corpus.hub import load_dataset
from pipeline.data.corpus.pieces import num_bytes_of
from pipeline.data.corpus.sources import Source, changed_since
from pipeline.data.corpus.splits import held_out_of_train, split_corpus
from pipeline.data.corpus.survey import is_needed, survey
from pipeline.data.directory import OtherCorpusError, Say, locked, new_directory
from pipeline.data.documents import document_lengths
from pipeline.data.extracts import some
from pipeline.data.planning import Range, mixture_of, plan, sample
from pipeline.data.reuse import (
    Splits,
    check_texts,
    find_prepared,
    remember,
    settings_of,
    shards_of,
    sources_of,
    state_of,
)
from pipeline.data.shards import (
    TOKENIZER,
    PreparedCorpus,
    open_prepared,
    read_sidecar,
    remove_leftovers,
    sidecar_name,
    write_manifest,
)
from pipeline.data.tasks import CountTask, MapTasks, RangeTask, encoded, run_line, texts_of, to_line
from pipeline.data.tokenizer import DEFAULT_BPE_VOCAB_SIZE, Ids, Tokenizer, train_tokenizer
from pipeline.data.tokenizer.training import from_counts, resolve_eos
from pipeline.errors import UserError

# enough text for byte-pair merges: more of it hardly changes them
BPE_SAMPLE_BYTES = 40 << 20
COUNT_BYTES = 64 << 20
ROUNDS = 3  # of a preparation whose texts are written meanwhile
SUMS = ("num_tokens", "num_documents", "num_unknown", *Tally.names())

OnShard = Callable[[dict[str, Any], int], None]


def in_process(tasks: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """One task after another in this process."""
    return (run_line(to_line(task)) for task in tasks)


def prepare_in_process(
    config: Config, *, on_shard: OnShard = lambda entry, total: None, say: Say = lambda sentence: None
) -> PreparedCorpus:
    """``prepare`` one range after another in this process."""
    return prepare(config, map_tasks=in_process, on_shard=on_shard, say=say)


def prepare(
    config: Config, *, map_tasks: MapTasks, on_shard: OnShard, say: Say = lambda sentence: None
) -> PreparedCorpus:
    """The prepared corpus of ``config``, made now where it is not there yet.

    Args:
        map_tasks: does each task somewhere and yields the results, in any order.
        on_shard: told of each shard's entry as it is done, and of the source bytes there are in all.
        say: told in a sentence what should be known of the corpus.

    Raises:
        UserError: no text, text that is not UTF-8, a directory that holds a corpus of other settings or texts, or that
            another process prepares.
    """
    directory = str(config.data.directory)
    if (found := find_prepared(config, map_tasks=map_tasks, say=say)) is not None:
        return found
    with new_directory(directory), locked(directory, say):
        shown = once(on_shard)
        for _ in range(ROUNDS):
            splits = split_corpus(config.corpus)
            content = make(config, splits, map_tasks=map_tasks, on_shard=shown, say=say)
            sources = sources_of(splits).values()
            if not (changed := changed_since(sources, config.corpus)):
                break
            say(f"{some(changed)} was written while it was prepared: all is compared with the text that is there now")
            load_dataset.cache_clear()
        else:
            raise OtherCorpusError(
                f"{some(changed)} is written again and again while it is prepared; the same command goes on when it is "
                "left alone"
            )
        remove_leftovers(directory, shards_of(content))
        write_manifest(directory, content)
    corpus = open_prepared(directory)
    remember(directory, state_of(corpus.fingerprint, sources))
    return corpus


def once(on_shard: OnShard) -> OnShard:
    """``on_shard``, told of each shard no more than once."""
    told: set[str] = set()

    def tell(entry: dict[str, Any], total: int) -> None:
        if entry["name"] not in told:
            told.add(entry["name"])
            on_shard(entry, total)

    return tell


def make(config: Config, splits: Splits, *, map_tasks: MapTasks, on_shard: OnShard, say: Say) -> dict[str, Any]:
    """Write the tokenizer and every shard of ``splits``; returns the content of the manifest."""
    directory, settings = str(config.data.directory), settings_of(config, splits)
    sources, num_files_left_out = sources_of(splits), 0
    if is_needed(config.corpus):
        splits, num_files_left_out = survey(splits, config.corpus, map_tasks)
    tokenizer = train(config, splits, map_tasks)
    ranges = plan(tokenizer, splits, config)
    storage.write(storage.join(directory, TOKENIZER), tokenizer.serialized)
    entries = run_ranges(config, tokenizer, ranges, sources=sources, map_tasks=map_tasks, on_shard=on_shard, say=say)
    contents = {split: split_entry(split, ranges, entries) for split in splits}
    for split, content in contents.items():
        check_has_tokens(split, content, config)
    return {
        "dtype": tokenizer.dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "settings": settings,
        "num_files_left_out": num_files_left_out,
        "splits": contents,
    }


def run_ranges(
    config: Config,
    tokenizer: Tokenizer,
    ranges: Sequence[Range],
    *,
    sources: Mapping[str, Source],
    map_tasks: MapTasks,
    on_shard: OnShard,
    say: Say,
) -> dict[str, dict[str, Any]]:
    """Manifest entries by shard name; those that an earlier, interrupted preparation finished are kept.

    Raises:
        OtherCorpusError: one that was finished was made of another text than there is now.
    """
    directory, reading = str(config.data.directory), Reading.of(config.corpus)
    if not storage.is_uri(directory):
        directory = str(Path(directory).absolute())
    total = sum(item.num_bytes for item in ranges)
    tasks = {item.name: RangeTask(directory, item, reading, made_of(item, tokenizer, reading)) for item in ranges}
    there = storage.sizes_in(directory)
    entries: dict[str, dict[str, Any]] = {}
    for name, task in tasks.items():
        sidecar = read_sidecar(directory, name) if sidecar_name(name) in there else None
        if sidecar and sidecar.facts["made_of"] == task.made_of:
            entries[name] = sidecar.shard_entry
    if entries:
        finished, damaged = {name: tasks[name].made_of for name in entries}, list[str]()
        check_texts(
            directory, finished, sources, field=reading.text_field, map_tasks=map_tasks, say=say, damaged=damaged
        )
        for name in damaged:
            del entries[name]
    for entry in entries.values():
        on_shard(entry, total)
    for entry in map_tasks([task for name, task in tasks.items() if name not in entries]):
        entries[entry["name"]] = entry
        on_shard(entry, total)
    return entries


def made_of(item: Range, tokenizer: Tokenizer, reading: Reading) -> str:
    """Hex digest of all that decides the bytes of a range's shard."""
    content = json.dumps([item.identity, tokenizer.fingerprint, reading.to_json()])
    return hashlib.sha256(content.encode()).hexdigest()


def split_entry(split: str, ranges: Sequence[Range], entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The manifest's entry of a split: its shards in order, and their sums."""
    shards = [entries[item.name] for item in ranges if item.split == split]
    return {**{name: sum(shard[name] for shard in shards) for name in (*SUMS, "source_bytes")}, "shards": shards}


def check_has_tokens(split: str, content: Mapping[str, Any], config: Config) -> None:
    """Raises ``UserError`` for a split without a token, saying what to change where the training text was divided."""
    if content["num_tokens"]:
        return
    held_out = [name for name, fraction in held_out_of_train(config.corpus).items() if fraction]
    name = next((name for name in held_out if split in ("train", name)), None)
    advice = f"; change corpus.{name}_fraction or name a corpus.{name}" if name else ""
    raise UserError(f"corpus.{split}: there is no token in its {content['source_bytes']:,} bytes of text{advice}")


def train(config: Config, splits: Splits, map_tasks: MapTasks) -> Tokenizer:
    """The tokenizer of the training pieces or of a sample of them: counted by tasks, or, for BPE, learnt here."""
    pieces, reading, kind = splits["train"], Reading.of(config.corpus), config.tokenizer.kind
    num_documents = len(pieces) if all(reading.is_one_document(piece) for piece in pieces) else 2
    if config.tokenizer.path is not None:
        return train_tokenizer(config.tokenizer, [], num_documents=num_documents)
    num_bytes = config.tokenizer.sample_bytes or (BPE_SAMPLE_BYTES if kind == "bpe" else None)
    if num_bytes is not None and kind != "byte":
        pieces = sample(pieces, num_bytes, reading)
    if kind in ("char", "word"):
        tasks = [CountTask(tuple(part), kind, reading) for part in group(pieces, COUNT_BYTES, reading)]
        counts: Counter[str] = Counter()
        for result in map_tasks(tasks):
            counts.update(result["counts"])
        return from_counts(config.tokenizer, counts, eos=resolve_eos(config.tokenizer, num_documents=num_documents))
    texts = texts_of(pieces, reading) if kind == "bpe" else []
    return train_tokenizer(config.tokenizer, texts, num_documents=num_documents)


@dataclass(frozen=True)
class Counts:
    """What a preparation would give: tokens of each split, types, the training documents where they are the layout."""

    tokens: dict[str, int]
    vocab_size: int
    is_exact: bool
    lengths: Ids | None = None  # tokens of each training document


def count_tokens(config: Config) -> Counts:
    """Counts without writing anything.

    From the manifest if the corpus is prepared, else by counting in memory; for BPE the tokens are estimated at
    four bytes each and the vocabulary is what was asked for.
    """
    wants_lengths, reading = config.data.layout == "documents", Reading.of(config.corpus)
    with suppress(OtherCorpusError):
        found = find_prepared(config, map_tasks=in_process, say=lambda sentence: None, writes=False)
        if found is not None:
            counts = {split: len(tokens) for split, tokens in found.splits.items()}
            lengths = document_lengths(found.splits["train"]) if wants_lengths else None
            return Counts(counts, found.vocab_size, True, lengths)
    splits: Splits = split_corpus(config.corpus)
    if is_needed(config.corpus):
        splits, _ = survey(splits, config.corpus, in_process)
    if config.tokenizer.kind == "bpe":
        mixed = {split: list(chain(*mixture_of(split, pieces, config))) for split, pieces in splits.items()}
        counts = {split: num_bytes_of(pieces) // 4 for split, pieces in mixed.items()}
        vocab_size = config.tokenizer.vocab_size or DEFAULT_BPE_VOCAB_SIZE
        if config.tokenizer.path is not None:
            vocab_size = train(config, splits, in_process).vocab_size
        if not wants_lengths:
            return Counts(counts, vocab_size, False)
        texts = texts_of(mixed["train"], reading)
        return Counts(counts, vocab_size, False, np.array([len(text.encode()) // 4 + 1 for text in texts]))
    tokenizer = train(config, splits, in_process)
    counts = dict.fromkeys(splits, 0)
    found_starts: list[Ids] = []
    for item in plan(tokenizer, splits, config):
        for ids, starts in encoded(tokenizer, item, reading, Tally()):
            if wants_lengths and item.split == "train":
                found_starts.append(starts + counts["train"])
            counts[item.split] += len(ids)
    lengths = np.diff(np.concatenate(found_starts), append=counts["train"]) if found_starts else None
    return Counts(counts, tokenizer.vocab_size, True, lengths)
