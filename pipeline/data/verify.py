"""A prepared corpus in; out, whether its texts are still those that it was made of, as far as they can be found."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.data.extracts import CompareTask, some
from pipeline.data.readers import TextSettings
from pipeline.data.reuse import extracts_of, recorded
from pipeline.data.shards import PreparedCorpus
from pipeline.errors import UserError


@dataclass(frozen=True)
class TextsCheck:
    """How many texts are as they were read, how many are gone, and for how many shards no digests were kept."""

    same: int
    gone: int
    shards_without_digests: int

    def __str__(self) -> str:
        parts = [f"{self.same:,} as they were read"] * bool(self.same) + [f"{self.gone:,} not there"] * bool(self.gone)
        if self.shards_without_digests:
            parts.append(f"no digests for {self.shards_without_digests:,} shards, which an earlier version made")
        return "  texts: " + ", ".join(parts)


def verify_texts(corpus: PreparedCorpus) -> TextsCheck:
    """Read again the texts of ``corpus`` that are still where they were, except those of a hub.

    Raises:
        UserError: a text has changed, or the record of it is damaged.
    """
    without: list[str] = []
    gone, found, changed = set(), {}, set()
    sizes: dict[str, int | None] = {}
    settings = TextSettings(text_field=corpus.manifest["settings"]["corpus"]["text_field"])
    for extract in extracts_of(corpus.directory, recorded(corpus.manifest), without):
        name, reader = extract.name, extract.reader(settings)
        if name not in sizes:
            sizes[name] = reader.size_now()
        if sizes[name] is None:
            gone.add(name)
        elif sizes[name] != extract.size:
            changed.add(name)
        else:
            found[name, extract.start, extract.stop, extract.digest] = extract, reader
    if not changed:
        changed.update(CompareTask(tuple(found.values()))())
    if changed:
        raise UserError(
            f"{corpus.directory}: every byte is as it was written, but the text that it was made of has changed since "
            f"({some(sorted(map(shown, changed)))})"
        )
    return TextsCheck(len({name for name, *_ in found}), len(gone), len(without))


def shown(name: str) -> str:
    """A name as an absolute path: a corpus may have been made in another folder than this process works in."""
    return os.path.abspath(name) if os.path.exists(name) else name
