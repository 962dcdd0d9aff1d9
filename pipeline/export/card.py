"""The README of an exported folder: what the model is, what it was trained on, how good it is, how it is used."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline import config as configuration
from pipeline.data.tokenizer import WordTokenizer
from pipeline.training.checkpoint import Loaded

USE = """\
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
    inputs = tokenizer("A text begins", return_tensors="pt")
    print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50, do_sample=True)[0]))
"""


def model_card(loaded: Loaded, *, license_name: str) -> str:
    """The card of ``loaded`` as Markdown, with the metadata that a hub reads at its head."""
    config, manifest, model = loaded.config, loaded.manifest, loaded.model
    head: dict[str, Any] = {
        "license": license_name,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["recurrent", config.model.cell, "recurray"],
    }
    facts = [
        f"Text: {', '.join(config.corpus.train)}",
        f"Tokens: {loaded.tokenizer.kind}, {loaded.tokenizer.vocab_size:,} types",
        f"Layers: {', '.join(map(str, config.model.layer_sizes))} units; head: {config.model.head}",
        f"Trained on {manifest.get('tokens', 0):,} tokens, {manifest.get('step', 0):,} updates",
    ]
    for name, figure in (("perplexity", "perplexity"), ("bits_per_byte", "bits per byte")):
        if manifest.get(name) is not None:
            facts.append(f"Validation {figure} of this checkpoint: {manifest[name]:.3f}")
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).strip(),
        "---",
        "",
        f"# {config.model.cell} language model of {model.num_parameters:,} parameters",
        "",
        *(f"- {fact}" for fact in facts),
        "",
        "The whole past is a state of fixed size: a token costs the same after ten tokens as after ten thousand.",
        *notes(loaded),
        "",
        USE,
        "## Settings",
        "",
        "```yaml",
        configuration.to_yaml(config, without=("run", "cluster", "search", "data")).strip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def notes(loaded: Loaded) -> list[str]:
    """What a user of this model has to know, a sentence each."""
    found = []
    if loaded.config.data.layout == "documents":
        found.append("It was trained to read `<eos>` before each text: put the tokenizer's `bos_token` before yours.")
    if isinstance(loaded.tokenizer, WordTokenizer) and loaded.tokenizer.eos == "line":
        found.append("A line ends with a newline, which is `<eos>`; a text that stops within a line goes on there.")
    if loaded.config.model.head != "softmax":
        found.append("Its logits are log-probabilities.")
    return found
