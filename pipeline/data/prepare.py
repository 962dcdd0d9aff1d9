"""A corpus → a tokenizer → ranges → one shard a range → the manifest. Ray-free: any map over the tasks will do.

Ranges are cut by source bytes at places that the tokenizer calls safe, never by the number of workers, so the same
corpus and settings give the same bytes, however many workers there are. What an interrupted preparation finished is
kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.config import Config
from pipeline.data.corpus.deduplication import deduplicated, is_needed
from pipeline.data.corpus.sources import changed_since
from pipeline.data.directory import OtherCorpusError, Say, check_apart, locked, new_directory
from pipeline.data.emptiness import check_has_tokens, check_weighted
from pipeline.data.extracts import some, write_unread
from pipeline.data.planning import Range, plan, tokens_by_pattern, unread
from pipeline.data.readers import Reader, Tally, TextSettings
from pipeline.data.reuse import (
    Wanted,
    check_texts,
    find_prepared,
    remember,
    shards_of,
    state_of,
    wanted_corpus,
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
from pipeline.data.tasks import KEPT, MapTasks, RangeTask, keep
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.vocabulary import tokenizer_of

ROUNDS = 3  # of a preparation whose texts are written to meanwhile
SUMS = ("num_tokens", "num_documents", "num_unknown", *Tally.names())

OnShard = Callable[[dict[str, Any], int], None]


def in_process(tasks: Sequence[Any]) -> Iterator[Any]:
    """Run one task after another in this process."""
    return (task() for task in tasks)


def prepare_in_process(
    config: Config, *, on_shard: OnShard = lambda entry, total: None, say: Say = lambda sentence: None
) -> PreparedCorpus:
    """As ``prepare``, one range after another in this process."""
    return prepare(config, map_tasks=in_process, on_shard=on_shard, say=say)


def prepare(
    config: Config, *, map_tasks: MapTasks, on_shard: OnShard, say: Say = lambda sentence: None
) -> PreparedCorpus:
    """The prepared corpus of ``config``, made now if it does not exist yet.

    Args:
        map_tasks: does each task somewhere and yields the results, in any order.
        on_shard: called with each shard's entry when it is done, and the source bytes of all shards; ``is_kept`` is in
            the entry of one that an earlier, interrupted preparation finished.
        say: called with sentences that the user should know about the corpus.

    Raises:
        UserError: no text, text that is not UTF-8, a directory that holds a corpus of other settings or texts, that is
            among the texts, or that another process is preparing.
    """
    directory = str(config.data.directory)
    wanted = wanted_corpus(config)
    if (found := find_prepared(config, wanted, map_tasks=map_tasks, say=say)) is not None:
        return found
    check_apart(directory, config.corpus)
    with new_directory(directory), locked(directory, say):
        shown = once(on_shard)
        for _ in range(ROUNDS):
            content = make(config, wanted, map_tasks=map_tasks, on_shard=shown, say=say)
            if not (changed := changed_since(wanted.sources.values(), config.corpus)):
                break
            names = some([source.name for source in changed])
            say(f"{names} was written while it was prepared: everything is compared with the text that is there now")
            for source in changed:
                source.forget()
            wanted = wanted_corpus(config)
        else:
            raise OtherCorpusError(
                f"{names} is written again and again while it is prepared; the same command continues when it is "
                "left alone"
            )
        remove_leftovers(directory, shards_of(content))
        write_manifest(directory, content)
    corpus = open_prepared(directory)
    remember(directory, state_of(corpus.fingerprint, wanted.sources.values()))
    return corpus


def once(on_shard: OnShard) -> OnShard:
    """``on_shard``, called at most once for each shard."""
    told: set[str] = set()

    def tell(entry: dict[str, Any], total: int) -> None:
        if entry["name"] not in told:
            told.add(entry["name"])
            on_shard(entry, total)

    return tell


def make(config: Config, wanted: Wanted, *, map_tasks: MapTasks, on_shard: OnShard, say: Say) -> dict[str, Any]:
    """Write the tokenizer and every shard of what is ``wanted``; returns the content of the manifest."""
    directory, splits, num_files_left_out = str(config.data.directory), wanted.texts, 0
    if is_needed(config.corpus):
        splits, num_files_left_out = deduplicated(splits, config.corpus, map_tasks)
    tokenizer = tokenizer_of(splits["train"], config.tokenizer, map_tasks)
    ranges = plan(tokenizer, splits, config)
    storage.write(storage.join(directory, TOKENIZER), tokenizer.serialized)
    entries = run_ranges(
        config, tokenizer, ranges, sources=wanted.sources, map_tasks=map_tasks, on_shard=on_shard, say=say
    )
    write_unread(directory, wanted.settings["sources"], unread(wanted.sources, ranges), map_tasks)
    contents = {split: split_entry(split, ranges, entries) for split in splits}
    for split, content in contents.items():
        check_has_tokens(split, content["num_tokens"], num_bytes=content["source_bytes"], corpus=config.corpus)
    check_weighted(
        tokens_by_pattern(ranges, {name: entry["num_tokens"] for name, entry in entries.items()}), config.corpus
    )
    return {
        "dtype": tokenizer.dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "settings": wanted.settings,
        "num_files_left_out": num_files_left_out,
        "splits": contents,
    }


def run_ranges(
    config: Config,
    tokenizer: Tokenizer,
    ranges: Sequence[Range],
    *,
    sources: Mapping[str, Reader],
    map_tasks: MapTasks,
    on_shard: OnShard,
    say: Say,
) -> dict[str, dict[str, Any]]:
    """Return manifest entries by shard name; shards that an earlier, interrupted preparation finished are kept.

    Raises:
        OtherCorpusError: a finished shard was made of another text than there is now.
    """
    directory, settings = str(config.data.directory), TextSettings.of(config.corpus)
    if not storage.is_uri(directory):
        directory = str(Path(directory).absolute())
        keep(directory, tokenizer)
    total = sum(item.num_bytes for item in ranges)
    tasks = {item.name: RangeTask(directory, item, made_of(item, tokenizer, settings)) for item in ranges}
    there = storage.sizes_in(directory)
    entries: dict[str, dict[str, Any]] = {}
    for name, task in tasks.items():
        sidecar = read_sidecar(directory, name) if sidecar_name(name) in there else None
        if sidecar and sidecar.facts["made_of"] == task.made_of:
            entries[name] = sidecar.shard_entry
    if entries:
        finished, damaged = {name: tasks[name].made_of for name in entries}, list[str]()
        check_texts(directory, finished, sources, map_tasks=map_tasks, say=say, damaged=damaged)
        for name in damaged:
            del entries[name]
    for entry in entries.values():
        on_shard({**entry, "is_kept": True}, total)
    for entry in map_tasks([task for name, task in tasks.items() if name not in entries]):
        entries[entry["name"]] = entry
        on_shard(entry, total)
    KEPT.clear()
    return entries


def made_of(item: Range, tokenizer: Tokenizer, settings: TextSettings) -> str:
    """Hex digest of everything that decides the bytes of a range's shard."""
    content = json.dumps([item.identity, tokenizer.fingerprint, settings.to_json()])
    return hashlib.sha256(content.encode()).hexdigest()


def split_entry(split: str, ranges: Sequence[Range], entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The manifest's entry of a split: its shards in order, and their sums."""
    shards = [entries[item.name] for item in ranges if item.split == split]
    return {**{name: sum(shard[name] for shard in shards) for name in (*SUMS, "source_bytes")}, "shards": shards}
