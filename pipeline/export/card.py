"""The README of an exported folder: what the model is, what it was trained on, how good it is, how to use it."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline import config as configuration
from pipeline.compress.folder import facts_of
from pipeline.data.tokenizer import WordTokenizer
from pipeline.training.checkpoint import Loaded

USE = """\
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
    inputs = tokenizer("A text begins", return_tensors="pt")
    print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))
"""


def model_card(loaded: Loaded, *, license_name: str) -> str:
    """The card of ``loaded`` as Markdown, with the metadata that a hub reads at the top."""
    head: dict[str, Any] = {
        "license": license_name,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["recurrent", loaded.config.model.cell, "recurray"],
    }
    return f"""---
{yaml.safe_dump(head, sort_keys=False).strip()}
---

{facts_of(loaded)}
- Head: {loaded.config.model.head}

{" ".join(notes(loaded))}

{USE}
## Settings

```yaml
{configuration.to_yaml(loaded.config, without=("run", "cluster", "search", "compare", "data")).strip()}
```
"""


def notes(loaded: Loaded) -> list[str]:
    """What a user of this model has to know, in one sentence each."""
    found = ["The whole past is a state of fixed size: a token costs the same after ten tokens as after ten thousand."]
    if loaded.config.data.layout == "documents":
        found.append("It was trained to read `<eos>` before each text: put the tokenizer's `bos_token` before yours.")
    if isinstance(loaded.tokenizer, WordTokenizer) and loaded.tokenizer.eos == "line":
        found.append("A line ends with a newline, which is `<eos>`; a text that stops within a line continues there.")
    if loaded.model.reset_every is not None:
        found.append(f"In training its state was made zero every {loaded.model.reset_every:,} tokens; here it is kept.")
    if loaded.config.model.head != "softmax":
        found.append("Its logits are log-probabilities.")
    return found
