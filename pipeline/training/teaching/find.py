"""What is at ``train.teacher``, whether it fits the corpus, and a teacher made of it.

path → ``find`` (a kind and a fingerprint; no model is built) → ``open_model``
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash

from pipeline.data.document_pools import begin_of_documents
from pipeline.data.shards import PreparedCorpus
from pipeline.data.tokenizer import Tokenizer, load_tokenizer
from pipeline.data.tokenizer.files import parse
from pipeline.errors import UserError
from pipeline.training import checkpoint
from pipeline.training.manifest import TOKENIZER, WEIGHTS
from pipeline.training.selection import reading
from pipeline.training.teaching.kinds import HUGGING_FACE, MODEL, STORED, Kind, kind_of
from pipeline.training.teaching.models import RecurrentTeacher, TeacherModel
from pipeline.training.teaching.stored import StoredLogits

SETTING = "train.teacher"


@dataclass(frozen=True)
class Found:
    """What is at a path."""

    kind: Kind
    path: Path  # of a run, its checkpoint
    fingerprint: str  # changes with the teacher's weights, or with what is stored


@contextmanager
def named(setting: str) -> Iterator[None]:
    """Begin the sentence of a ``UserError`` with the name of ``setting``, unless it names a setting itself."""
    try:
        yield
    except UserError as error:
        if error.argument or not setting:
            raise
        raise UserError(str(error), argument=setting) from None


def find(path: str | Path, corpus: PreparedCorpus, *, which: str | None = None, setting: str = SETTING) -> Found:
    """Look at what is at ``path``: stored logits, a model of this project, or one of Hugging Face.

    Args:
        which: ``best`` or ``last`` of a run.
        setting: the setting that the path was given as.

    Raises:
        UserError: it is none of these, or has another tokenizer, or (stored logits) is of another corpus.
    """
    with named(setting):
        kind = kind_of(path)
        if kind == STORED:
            stored = StoredLogits(path)
            stored.check(corpus=corpus.fingerprint, tokenizer=corpus.tokenizer.fingerprint)
            return Found(STORED, Path(path), stored.fingerprint)
        if kind == HUGGING_FACE:
            check_their_tokenizer(Path(path), corpus.tokenizer)
            return Found(HUGGING_FACE, Path(path), fingerprint_of_files(Path(path)))
        found, manifest = reading(path, which, lambda choice: (choice.path, checkpoint.verify(choice.path)))
        if load_tokenizer(found / TOKENIZER).fingerprint != corpus.tokenizer.fingerprint:
            raise UserError(f"{path} was trained with another tokenizer than the corpus has; their types do not match")
        return Found(MODEL, found, manifest["files"][WEIGHTS]["xxh3"])


def open_model(
    found: Found,
    tokenizer: Tokenizer,
    *,
    device: torch.device,
    precision: str,
    reads_streams: bool = False,
    setting: str = SETTING,
) -> TeacherModel:
    """Load the model that ``find`` found (not stored logits).

    Args:
        reads_streams: it is to read running text, even if it was trained on documents.

    Raises:
        UserError: it cannot be read.
    """
    with named(setting):
        if found.kind == HUGGING_FACE:
            from pipeline.training.teaching.hugging_face import HuggingFaceTeacher

            return HuggingFaceTeacher(found.path, tokenizer, device=device, precision=precision)
        loaded = checkpoint.load_model(found.path, device)
        finds_begins = reads_streams and loaded.config.data.layout == "documents"
        begin_id = begin_of_documents(tokenizer) if finds_begins else None
        return RecurrentTeacher(loaded.model, precision=precision, begin_id=begin_id)


def check_their_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise ``UserError`` unless the corpus has the tokenizer that lies beside a Hugging Face model."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise UserError(f"{folder} has no tokenizer.json, so whether its types are the corpus's cannot be told")
    try:
        theirs = parse(path.read_bytes(), tokenizer.eos)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if theirs.fingerprint != tokenizer.fingerprint:
        raise UserError(f"the corpus has another tokenizer than {folder}; prepare it with tokenizer.path={path}")


def fingerprint_of_files(folder: Path) -> str:
    """Hex xxh3 of a Hugging Face model's configuration and weights. Raises ``UserError`` without safetensors."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UserError(f"{folder} has no weights in safetensors, and no pickle is read")
    digest = xxhash.xxh3_64()
    for path in (folder / "config.json", *weights):
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
