"""Find settings by name: what each section has, and what an unknown name probably means."""

from __future__ import annotations

from typing import Any

from pipeline.config.fields import Section, no_blank
from pipeline.config.schema import Config

# the names that other tools use for a setting
OTHER_NAMES = {
    "learning_rate": ["optimizer.lr"],
    "optimizer": ["optimizer.name"],
    "scheduler": ["optimizer.schedule"],
    "steps": ["train.max_steps"],
    "clip": ["train.clip_norm"],
    "emsize": ["model.embedding_size"],
    "nhid": ["model.hidden_size"],
    "nlayers": ["model.num_layers"],
    "rnn_type": ["model.cell"],
    "tied": ["model.tie_weights"],
    "wdecay": ["optimizer.weight_decay"],
    "wdrop": ["model.weight_dropout"],
    "save": ["run.directory"],
    "data": ["corpus.train"],
}
NO_SETTINGS = {"search.metric": "a search compares validation perplexity", "search.mode": "perplexity is minimised"}


def section_model(section: str) -> type[Section]:
    """Return the class of the section called ``section``."""
    model: Any = Config.model_fields[section].annotation
    return model


def section_fields(section: str) -> dict[str, Any]:
    """Return field name → pydantic ``FieldInfo`` of the section called ``section``."""
    return dict(section_model(section).model_fields)


def unknown(path: str) -> str:
    """Return ``path: unknown setting`` and a guess at what was meant (see ``meant_by``)."""
    section, _, name = path.rpartition(".")
    if path in _places():
        return f"{path}: is not a section; in a file, write {section}: and below it {name}: …"
    if ":" in path:
        return f"{path}: unknown setting; {no_blank(path)}"
    if path in NO_SETTINGS:
        return f"{path}: unknown setting; {NO_SETTINGS[path]}"
    meant = meant_by(path)
    return f"{path}: unknown setting" + (f"; did you mean {' or '.join(meant)}?" if meant else "")


def meant_by(path: str) -> list[str]:
    """Return what ``path`` may mean: settings or sections of that name, of another tool's name, or similar ones."""
    name = path.rpartition(".")[2]
    exact = [place for place in _places() if place == path or place.endswith(f".{name}")]
    return [path] if path in exact else exact or OTHER_NAMES.get(name.lower()) or _near(path)


def _places() -> list[str]:
    return [f"{section}.{field}" for section in Config.model_fields for field in section_fields(section)]


def _near(path: str) -> list[str]:
    """Return the section or setting with the most similar name, without the section if it is the same."""
    import difflib

    section, _, name = path.rpartition(".")
    known: dict[str, str] = {} if section else {name: name for name in Config.model_fields}
    for place in _places():
        own, _, field = place.partition(".")
        known[field] = field if own == section else known.get(field, place)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return [known[near[0]]] if near else []
