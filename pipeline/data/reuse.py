"""Whether the corpus that a directory holds is the one that is wanted: the same settings, and still the same texts.

sources.json   digests of the names, sizes and times of all texts, as of when they were found unchanged
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import xxhash

from pipeline import storage
from pipeline.config import Config, data_fingerprint
from pipeline.data.corpus.slices import Slice
from pipeline.data.corpus.sources import reachable
from pipeline.data.corpus.splits import split_corpus
from pipeline.data.directory import OtherCorpusError, Say
from pipeline.data.extracts import SUFFIX, UNREAD, Compare, Extract, changed_texts, read_extracts, settled_before, some
from pipeline.data.readers import Reader
from pipeline.data.shards import PreparedCorpus, open_prepared, read_manifest, sidecar_name
from pipeline.data.shards.sidecar import Sidecar
from pipeline.data.tokenizer.files import read_file
from pipeline.errors import UserError
from pipeline.files import UnwritableError

STATE = "sources.json"
NUM_STATES = 8
Splits = Mapping[str, Sequence[Slice]]


@dataclass(frozen=True)
class Wanted:
    """The corpus that a configuration asks for: its splits, None if their text cannot be reached, and settings."""

    splits: Splits | None
    sources: dict[str, Reader]  # those that can be reached, by name
    settings: dict[str, Any]
    unreadable: storage.UnreadableError | None = None

    @property
    def texts(self) -> Splits:
        """The splits. Raises ``UnreadableError`` if they cannot be reached."""
        if self.splits is None:
            raise self.unreadable or storage.UnreadableError("the text cannot be read")
        return self.splits


def wanted_corpus(config: Config) -> Wanted:
    """What ``config`` asks for, with the texts as they are now. Raises ``UserError`` for settings that are wrong."""
    try:
        splits = split_corpus(config.corpus)
    except storage.UnreadableError as error:
        is_prepared = read_manifest(str(config.data.directory)) is not None
        # to be prepared, a corpus needs all texts: do not ask, and wait for, a store that does not answer again
        there = {source.name: source for source in reachable(config.corpus)} if is_prepared else {}
        return Wanted(None, there, settings_of(config, None), error)
    sources = {item.reader.name: item.reader for slices in splits.values() for item in slices}
    return Wanted(splits, sources, settings_of(config, splits))


def find_prepared(
    config: Config, wanted: Wanted, *, map_tasks: Compare, say: Say, writes: bool = True
) -> PreparedCorpus | None:
    """The corpus in the directory of ``config``, None if it is not prepared there.

    If a text is gone or its store does not answer, the corpus is still used, and ``say`` is told so.

    Args:
        writes: whether a note may be written there that the texts were found unchanged.

    Raises:
        OtherCorpusError: it is not the one that is ``wanted``, or a text has changed since.
        UserError: it is damaged.
    """
    directory = str(config.data.directory)
    found = read_manifest(directory)
    if found is None:
        return None
    check_same(directory, found, wanted.settings, wanted.sources)
    corpus = open_prepared(directory)
    state = state_of(corpus.fingerprint, wanted.sources.values())
    known = known_states(directory)
    if state not in known:
        is_known = check_texts(directory, recorded(found), wanted.sources, map_tasks=map_tasks, say=say)
        if writes and is_known and wanted.unreadable is None:
            remember(directory, state, others=known)
    if wanted.unreadable is not None:
        say(f"{directory} is used as it was prepared, because its text cannot be checked: {wanted.unreadable}")
    return corpus


def shards_of(manifest: Mapping[str, Any]) -> list[str]:
    """The names of all shards."""
    return [shard["name"] for split in manifest["splits"].values() for shard in split["shards"]]


def recorded(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    """What a prepared corpus has a record of, as ``check_texts`` takes it: all shards, and what is in none."""
    return {**dict.fromkeys(shards_of(manifest)), UNREAD: manifest["settings"]["sources"]}


def settings_of(config: Config, splits: Splits | None) -> dict[str, Any]:
    """What the bytes of a prepared corpus depend on: settings, and the names and sizes of the texts.

    Args:
        splits: None if the texts cannot be reached; what is read from files is then left out.
    """
    path = config.tokenizer.path
    file, sources = {}, {}
    if splits is not None:
        names = [[split, *item.identity] for split, slices in splits.items() for item in slices]
        sources = {"sources": hashlib.sha256(json.dumps(names).encode()).hexdigest()}
    if path is not None:
        with suppress(UserError) if splits is None else nullcontext():
            file = {"file": hashlib.sha256(read_file(path)).hexdigest()}
    return {
        "fingerprint": data_fingerprint(config),
        "corpus": config.corpus.model_dump(mode="json"),
        "tokenizer": {**config.tokenizer.model_dump(mode="json"), **file},
        "shard_tokens": config.data.shard_tokens,
        **sources,
    }


def check_same(
    directory: str, manifest: Mapping[str, Any], wanted: Mapping[str, Any], sources: Mapping[str, Reader]
) -> None:
    """Refuse to mix two corpora in a directory.

    Raises:
        OtherCorpusError: naming the settings that differ, or that the texts have changed.
    """
    found = manifest["settings"]
    differing = [
        f"{section}.{name} was {found[section].get(name)!r}, is {value!r}"
        for section in ("corpus", "tokenizer")
        for name, value in wanted[section].items()
        if found[section].get(name) != value
    ]
    if found["shard_tokens"] != wanted["shard_tokens"]:
        differing.append(f"data.shard_tokens was {found['shard_tokens']}, is {wanted['shard_tokens']}")
    if not differing and found["sources"] != wanted.get("sources", found["sources"]):
        differing.append(f"the texts are not the same{difference(directory, manifest, sources)}")
    if differing:
        raise OtherCorpusError(
            f"data.directory: {directory} holds a corpus prepared differently ({'; '.join(differing)}); "
            "remove it or name another directory"
        )


def difference(directory: str, manifest: Mapping[str, Any], sources: Mapping[str, Reader]) -> str:
    """A phrase that says which texts differ from those that a corpus was made of, as far as that was recorded."""
    with suppress(UserError):
        extracts = extracts_of(directory, recorded(manifest), [])
        sizes = {extract.name: extract.size for extract in extracts}
        there = sizes.keys() & sources.keys()
        if other := sorted(name for name in there if sources[name].size != sizes[name]):
            return f" any more: {other[0]} had {sizes[other[0]]:,} bytes and has {sources[other[0]].size:,}"
        if gone := sorted(sizes.keys() - sources.keys()):
            return f" any more: {some(gone)} is gone"
        if sizes and (new := sorted(sources.keys() - sizes.keys())):
            return f" any more: {some(new)} is new"
    return " files, sizes or contents any more"


def check_texts(
    directory: str,
    shards: Mapping[str, str | None],
    sources: Mapping[str, Reader],
    *,
    map_tasks: Compare,
    say: Say,
    damaged: list[str] | None = None,
) -> bool:
    """Refuse shards of a text that has changed since; return whether that could be checked for all of them.

    Args:
        shards: what each was ``made_of``; None: as its sidecar says.
        sources: those that can be reached, by name.
        damaged: takes the names of shards whose record of that cannot be read; None: that is an error.

    Raises:
        OtherCorpusError: naming the texts.
    """
    without: list[str] = []
    extracts = extracts_of(directory, shards, without, damaged)
    if changed := changed_texts(extracts, sources, map_tasks=map_tasks, say=say):
        raise OtherCorpusError(
            f"data.directory: {directory} was prepared from another text than there is now ({some(changed)} has "
            "changed since); remove it or name another directory"
        )
    if without:
        say(
            f"{directory} was prepared by an earlier version, which kept no digests of its texts: whether one has "
            "changed since without a change of size cannot be told"
        )
    return not without


def extracts_of(
    directory: str, shards: Mapping[str, str | None], without: list[str], damaged: list[str] | None = None
) -> Iterator[Extract]:
    """What ``shards`` were made of, as in ``check_texts``; ``without`` takes the names of those that have no record.

    Raises:
        UserError: a file is damaged.
    """
    there = storage.sizes_in(directory)
    for name, wanted in shards.items():
        found: list[Extract] = []
        if name + SUFFIX in there:
            try:
                found = read_extracts(directory, name, wanted or made_of(directory, name))
            except UserError:
                if damaged is None:
                    raise
                damaged.append(name)
                continue
        if not found and name != UNREAD:
            without.append(name)
        yield from found


def made_of(directory: str, shard: str) -> str:
    """What the shard was made of, as its sidecar says. Raises ``UserError`` naming a damaged sidecar."""
    path = storage.join(directory, sidecar_name(shard))
    try:
        return str(Sidecar.from_bytes(storage.read(path)).facts.get("made_of"))
    except storage.UnreadableError:
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def state_of(fingerprint: str, sources: Iterable[Reader]) -> dict[str, Any]:
    """A quick summary that shows whether a corpus and its texts are unchanged."""
    facts = [[source.name, source.size, source.changed] for source in sources]
    times = [source.changed for source in sources]
    latest = max(times, default=0) if all(times) else 0
    return {"corpus": fingerprint, "sources": xxhash.xxh3_128_hexdigest(json.dumps(facts).encode()), "latest": latest}


def known_states(directory: str) -> list[dict[str, Any]]:
    """The states in which the texts were found unchanged, except those in which a later change might not show."""
    path = storage.join(directory, STATE)
    try:
        states, limit = json.loads(storage.read(path)), settled_before(path)
        return [state for state in states if 0 < state["latest"] < limit]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []


def remember(directory: str, state: dict[str, Any], *, others: Sequence[dict[str, Any]] = ()) -> None:
    """Keep ``state``, so that next time no text need be read.

    Args:
        others: states to keep as well: those of other machines, on which the same texts may have other times.
    """
    kept = [other for other in others if other != state and other.get("corpus") == state["corpus"]]
    with suppress(UnwritableError):  # another user's corpus, say: the texts are compared again
        data = json.dumps([*kept[-NUM_STATES + 1 :], state])
        storage.write(storage.join(directory, STATE), data.encode())
