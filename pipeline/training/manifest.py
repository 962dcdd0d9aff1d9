"""The manifest of a checkpoint or model folder says what is in it, and whether it is still as it was written.

    format, kind            2, "checkpoint" or "model" (a folder only for use, without a state to continue from)
    Progress                where the run is
    Origin                  what it was trained on, with and where
    Figures                 of the validation at this step, if there was one
    files                   bytes and xxh3 of every other file of the folder
    checksum                of all of the above

Nothing is guessed: a value that is missing (if it is no younger than the manifest), of another type or unknown is
damage. Manifests of format 1 had neither ``format`` nor ``checksum``; so that no flipped bit turns one of today into
one of those, the two stand at its two ends, and either of them requires both.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from pipeline import signing
from pipeline.data.shards.writing import file_facts
from pipeline.errors import UserError
from pipeline.files import reason

MANIFEST = "manifest.json"
WEIGHTS, STATE, CONFIG, TOKENIZER = "weights.safetensors", "state.pt", "config.yaml", "tokenizer.json"
FORMAT = 2
CHECKPOINT, MODEL_FOLDER = "checkpoint", "model"
NEEDED = {CHECKPOINT: (WEIGHTS, STATE, CONFIG, TOKENIZER), MODEL_FOLDER: (WEIGHTS, CONFIG, TOKENIZER)}


# the errors of a disk that has lost a file, and of a folder in a file's place
DAMAGE = {errno.EIO, errno.EBADMSG, errno.ENOTDIR, errno.EISDIR}


class DamagedError(UserError):
    """A checkpoint is not as it was written; the sentence begins with the file."""


@dataclass
class Progress:
    """How far a run has come, as a checkpoint's manifest says."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # in this epoch, as the data counts it: tokens of each stream, or windows of documents
    tokens: int = 0  # training tokens over all ranks
    words: int | None = None  # words of the source in them; None: they are not counted
    seconds: float = 0.0
    best_perplexity: float | None = None
    num_worse: int = 0  # validations since the best
    num_drops: int = 0  # times that the plateau schedule lowered the learning rate
    lowest_loss: float | None = None  # of the record's lines so far, nats per token

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for item in fields(self):
            setattr(self, item.name, state[item.name])


@dataclass(frozen=True)
class Origin:
    """What a checkpoint was trained on, with and where."""

    fingerprints: dict[str, str]  # of corpus and tokenizer
    num_workers: int
    num_threads: int
    device: str
    torch: str


@dataclass(frozen=True)
class Figures:
    """The figures of the validation at this step."""

    loss: float  # nats per token
    perplexity: float
    bits_per_byte: float | None


# what a format did not have from its beginning, with the value that its absence means; what format 1 once had
YOUNGER: dict[int, dict[str, Any]] = {1: {"num_drops": 0, "lowest_loss": None, "words": None}, 2: {"words": None}}
FORMER = ("ended_early",)

PROGRESS, ORIGIN, FIGURES = (get_type_hints(part) for part in (Progress, Origin, Figures))
# the numbers of words that a checkpoint stands for
MARKS = {"at_words": list[int]}
# the values of a model folder, as far as the model that it was made from had them
KEPT = {name: hint for name, hint in (PROGRESS | ORIGIN | FIGURES).items() if name in (
    "step", "epoch", "tokens", "words", "perplexity", "bits_per_byte", "fingerprints", "torch"
)}  # fmt: skip


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of the files in ``folder``, which makes it whole; ``facts`` are those listed above."""
    files = {file.name: file_facts(file) for file in sorted(folder.iterdir())}
    content = {"format": FORMAT, "kind": CHECKPOINT, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(signing.sign(content), indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``; values that are younger than it are filled in.

    Raises:
        DamagedError: it is missing, cut short, altered, or says too little or too much.
        UserError: it cannot be read at the moment.
    """
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_bytes())
    except FileNotFoundError:
        raise DamagedError(f"{path}: missing") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except DamagedError as error:
        raise DamagedError(f"{path}: {error}") from None


def parse_manifest(data: bytes) -> dict[str, Any]:
    """The manifest in ``data``, like ``read_manifest``. Raises ``DamagedError``, without the name of the file."""
    try:
        values = signing.parse(data)
    except ValueError:
        raise DamagedError("not a whole manifest (cut short or foreign)") from None
    if "format" in values or signing.CHECKSUM in values:
        if not signing.is_intact(values):
            raise DamagedError("altered since it was written (its checksum does not match)")
        if values.get("format") != FORMAT:
            raise DamagedError(f"format {values.get('format')}, but this version reads format {FORMAT}")
    else:
        values = {"kind": CHECKPOINT, **{k: v for k, v in values.items() if k not in FORMER}}
    if values.get("kind") == CHECKPOINT:
        values = {**YOUNGER[values.get("format", 1)], **values}
    if wrong := _wrong(values):
        raise DamagedError(wrong)
    return values


def is_signed(manifest: Mapping[str, Any]) -> bool:
    """Return whether a change to the file of ``manifest`` would have been noticed."""
    return signing.CHECKSUM in manifest


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder`` after every file's size and checksum were checked.

    Raises:
        DamagedError: naming the file that is missing or altered.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ``DamagedError`` naming the file in ``folder`` that is not as ``manifest`` says."""
    for name, wanted in manifest["files"].items():
        file = folder / name
        try:
            num_bytes = file.stat().st_size
            if num_bytes != wanted["bytes"]:
                raise DamagedError(f"{file}: {num_bytes} bytes where its checkpoint's manifest says {wanted['bytes']}")
            found = file_facts(file)
        except FileNotFoundError:
            raise DamagedError(f"{file}: missing from the checkpoint") from None
        except OSError as error:
            raise _unreadable(file, error) from None
        if found["xxh3"] != wanted["xxh3"]:
            raise DamagedError(f"{file}: altered since it was written (its checksum differs from the manifest's)")


def _unreadable(file: Path, error: OSError) -> UserError:
    """Return damage if the disk says so, but not if the file may be readable another time (rights, a network)."""
    kind = DamagedError if error.errno in DAMAGE else UserError
    return kind(f"{file}: cannot be read: {reason(error)}")


def _wrong(values: Mapping[str, Any]) -> str:
    """Say what is missing from ``values``, unknown or of another type; empty if nothing is."""
    kind = values.get("kind")
    if kind not in NEEDED:
        return f"kind {kind!r:.80}, which is neither {CHECKPOINT!r} nor {MODEL_FOLDER!r}"
    needed: dict[str, Any] = {"kind": str, "files": dict[str, dict[str, Any]]}
    allowed = KEPT if kind == MODEL_FOLDER else FIGURES | MARKS
    needed |= {"step": int, "fingerprints": dict[str, str]} if kind == MODEL_FOLDER else PROGRESS | ORIGIN
    allowed = needed | allowed | ({"format": int, signing.CHECKSUM: str} if is_signed(values) else {})
    for name in needed:
        if name not in values:
            return f"it does not say {name!r}"
    for name, value in values.items():
        if name not in allowed:
            return f"{name!r} is not a value of a {kind}'s manifest"
        if not _is(value, allowed[name]):
            return f"{name!r} cannot be {value!r:.80}"
    if missing := {"corpus", "tokenizer"} - values["fingerprints"].keys():
        return f"it does not say the fingerprint of the {min(missing)}"
    return _wrong_files(values["files"], NEEDED[kind])


def _wrong_files(files: Mapping[str, Mapping[str, Any]], needed: tuple[str, ...]) -> str:
    if missing := [name for name in needed if name not in files]:
        return f"it does not list {missing[0]}"
    for name, facts in files.items():
        if Path(name).name != name or {"bytes": int, "xxh3": str} != {k: type(v) for k, v in facts.items()}:
            return f"{name!r} in its list of files cannot be {facts!r:.80}"
    return ""


def _is(value: Any, hint: Any) -> bool:
    """Whether JSON's ``value`` is what the type ``hint`` says; an integer is a count, so never below zero."""
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is(each, get_args(hint)[0]) for each in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is(each, get_args(hint)[1]) for each in value.values())
    if hint is float:
        return type(value) in (int, float)
    if hint is int:
        return type(value) is int and value >= 0
    alternatives = get_args(hint)
    return any(_is(value, each) for each in alternatives) if alternatives else hint is Any or type(value) is hint
