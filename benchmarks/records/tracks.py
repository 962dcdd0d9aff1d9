"""The tracks of ``tracks.yaml``, and whether a recipe keeps to the rules of its track."""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline import config as configuration
from pipeline.config import Config, CorpusConfig, EvaluateConfig, TokenizerConfig
from pipeline.config.loading import BASE, read_yaml
from pipeline.data.readers.builtin import DOCS, topics
from pipeline.errors import UserError
from pipeline.means import exp

FOLDER = Path(__file__).parent
SEEDS = (1, 2, 3)  # of every record, named before any of them ran


@dataclass(frozen=True)
class Track:
    """A text, the way it is cut into tokens, and a target."""

    name: str
    text: Mapping[str, str]  # file, or built-in corpus → SHA-256
    tokenizer: Mapping[str, Any]
    metric: str  # perplexity, nats (per token) or bits_per_byte
    at_most: float
    peer: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def figure(self, validation: Mapping[str, Any]) -> float:
        """The metric of a validation: of its ``nats`` per token, or its ``bits_per_byte``, infinite if it has none."""
        if self.metric == "bits_per_byte":
            bits = validation["bits_per_byte"]
            return math.inf if bits is None else float(bits)
        nats = float(validation["nats"])
        return exp(nats) if self.metric == "perplexity" else nats

    def tokens_to_target(self, validations: Sequence[Mapping[str, Any]], seed: int) -> int | None:
        """Tokens trained on before the first validation of ``seed`` that reaches the target; None: none does."""
        reached = [one["tokens"] for one in validations if one["seed"] == seed and self.figure(one) <= self.at_most]
        return min(reached, default=None)


def tracks() -> dict[str, Track]:
    values = yaml.safe_load((FOLDER / "tracks.yaml").read_text(encoding="utf-8"))
    return {name: Track(name, **fields) for name, fields in values.items()}


def parser(description: str, *, folder_of: str) -> argparse.ArgumentParser:
    """The options that the commands on a track share; ``folder_of``: what ``--to`` holds."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("track", choices=list(tracks()))
    result.add_argument("--text", type=Path, metavar="DIR", help="folder of the track's text files")
    result.add_argument("--recipe", type=Path, help="YAML file; by default the track's newest record")
    result.add_argument("--to", type=Path, default=Path("runs/records"), help=f"folder of {folder_of}")
    return result


def recipe_of(track: Track) -> Path:
    """The newest record of a track. Raises ``UserError`` if there is none."""
    found = sorted((FOLDER / track.name).glob("*.yaml"))
    if not found:
        raise UserError(f"{track.name}: has no record yet; name a recipe with --recipe")
    return found[-1]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The validations in a log of ``run.py``."""
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    return [
        {
            "seed": int(line["seed"]),
            "tokens": int(line["tokens"]),
            "nats": float(line["nats"]),
            "bits_per_byte": float(line["bits_per_byte"]) if line["bits_per_byte"] else None,
        }
        for line in lines
    ]


def load_recipe(track: Track, recipe: Path, text: Path | None, changes: Mapping[str, Any]) -> Config:
    """The configuration of a recipe on the text of a track.

    Args:
        text: the folder of the track's files; None if the text is built in.
        changes: settings of this machine: directories, ``cluster``.

    Raises:
        UserError: the text is not the track's, or the recipe breaks a rule.
    """
    corpus = corpus_of(track, text)
    if BASE in read_yaml(recipe):
        raise UserError(f"{recipe}: {BASE}: a record is one file")
    config = configuration.with_values(configuration.load(recipe), {**corpus, **changes})
    if broken := broken_rules(track, config):
        raise UserError("\n".join(f"{recipe}: {rule}" for rule in broken))
    return config


def corpus_of(track: Track, text: Path | None) -> dict[str, Any]:
    """``corpus.train`` and ``corpus.valid`` of a track. Raises ``UserError`` if a text is not the track's."""
    if DOCS in track.text:
        _check(track, DOCS, b"".join(name.encode() + b"\0" + one + b"\0" for name, one in topics().items()))
        return {"corpus.train": [DOCS], "corpus.valid": []}
    if text is None:
        raise UserError(f"--text: missing; {track.name} needs a folder with {' and '.join(track.text)}")
    for name in track.text:
        if not (text / name).is_file():
            raise UserError(f"--text: {text} has no {name}")
        _check(track, name, (text / name).read_bytes())
    return {"corpus.train": [str(text / "train.txt")], "corpus.valid": [str(text / "valid.txt")]}


def _check(track: Track, name: str, text: bytes) -> None:
    found = hashlib.sha256(text).hexdigest()
    if found != track.text[name]:
        raise UserError(f"{name}: is not the text of {track.name}: its SHA-256 is {found}, not {track.text[name]}")


def broken_rules(track: Track, config: Config) -> list[str]:
    """What a recipe does that the rules of its track forbid, one sentence for each."""
    plain = CorpusConfig(train=config.corpus.train, valid=config.corpus.valid)
    tokenizer = TokenizerConfig(**track.tokenizer)
    broken = [f"corpus.{name}: is fixed" for name, value in config.corpus if value != getattr(plain, name)]
    broken += [f"tokenizer.{name}: is fixed" for name, value in config.tokenizer if value != getattr(tokenizer, name)]
    for path, wanted in track.settings.items():
        if (value := configuration.get(config, path)) != wanted:
            broken.append(f"{path}: must be {wanted}, not {value}")
    if config.model.cell == "transformer":
        broken.append("model.cell: must be recurrent, not transformer")
    if config.model.attention is not None:
        broken.append("model.attention: a record may not attend to past tokens")
    if config.train.initial_weights is not None:
        broken.append("train.initial_weights: a record begins with random weights")
    if config.train.teacher is not None:
        broken.append("train.teacher: no rule says yet how a teacher's time counts")
    if config.train.on_bad_window != "stop":
        broken.append("train.on_bad_window: must be stop: undoing takes time that no token is counted for")
    if config.evaluate != EvaluateConfig():
        broken.append("evaluate: validation must use the defaults")
    return broken
