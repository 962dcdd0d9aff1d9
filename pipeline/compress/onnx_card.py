"""The README beside an exported file, which says how to use it, and the metadata in it, which say what it is."""

from __future__ import annotations

from pipeline.compress.onnx_model import ONNX
from pipeline.training.checkpoint import TOKENIZER, Loaded

# docs/using.md contains the same program
LOOP = """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
states = session.get_inputs()[1:]  # of each layer: h0, c0, …
state = {item.name: np.zeros((1, 1, item.shape[2]), np.float32) for item in states}  # (1, texts, size), blank
token = int(session.get_modelmeta().custom_metadata_map["start"])  # read before the text
random = np.random.default_rng(1)
written = []
for _ in range(50):
    logits, *ends = session.run(None, {"tokens": np.array([[token]], np.int64), **state})  # (1 step, 1 text, types)
    state = dict(zip(state, ends))
    weights = np.exp(logits[0, 0].astype(np.float64) - logits.max())
    token = int(random.choice(len(weights), p=weights / weights.sum()))
    written.append(token)
print(written)
"""
# training began each document with a zero state
RESETS = """The states are zeros again where the last step of a call is type {reset_after}, the end of a document
(`reset_after` in the metadata): cut longer calls after it.
"""
DECODE = """from pipeline.data.tokenizer import load_tokenizer

tokenizer = load_tokenizer("tokenizer.json")
print(tokenizer.decode(written))
"""


def onnx_facts(loaded: Loaded) -> dict[str, str]:
    """Return the metadata of an exported file: what the model was made from, how well it did, and its first token."""
    config, manifest, tokenizer = loaded.config, loaded.manifest, loaded.tokenizer
    facts = {
        "text": ", ".join(config.corpus.train),
        "hidden_sizes": ", ".join(map(str, config.model.layer_sizes)),
        "parameters": str(loaded.model.num_parameters),
        "tokenizer": tokenizer.kind,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "start": str(int(tokenizer.start_ids[0])),
    }
    for name in ("step", "tokens", "perplexity", "bits_per_byte"):
        if manifest.get(name) is not None:
            facts[name] = str(manifest[name])
    return facts


def onnx_card(facts: str, weights: str, reset_after: int | None) -> str:
    """Return the README of an exported folder, in Markdown.

    Args:
        facts: those of the model card.
        reset_after: ``LanguageModel.reset_after``.
    """
    resets = "" if reset_after is None else RESETS.format(reset_after=reset_after)
    return f"""{facts}
- Weights: {weights}

`{ONNX}` takes `tokens`, whole numbers (T, B): T steps of B texts; and the state of each layer, float32 (1, B, size),
zeros at first. It returns `logits` (T, B, types) and a `next_…` for each state, to be passed in with the next tokens.
{resets}Its metadata describe it. ONNX Runtime alone runs it (`pip install onnxruntime`); this program writes 50 tokens:

```python
{LOOP}```

If Recurray is installed, `{TOKENIZER}` turns a text into these numbers and back:

```python
{DECODE}```

`pipeline.compress.onnx_model.OnnxModel(FOLDER)` keeps the state itself and checks its inputs.
"""
