#!/usr/bin/env bash
# The package surprisal gives each token the probability that it would have if the text could not end.
# Version: surprisal 0.1.7, transformers 5.24.0, torch 2.13.0.
# Guess: the surprisal of a token is −ln of the probability that the model gives it, among all types.
# Seen: the end of text is taken for padding, and its logit is set to −inf in every place, also for a text that is
# scored alone; so all other types share its probability. Where the model expects the end, whatever comes instead looks
# likely: a third letter that has 6.7 nats is given 1.1. An end of text within a text has inf nats.
# For us: docs/tools.md says so; jobs.evaluate --surprisal and minicons leave the probabilities as they are.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    surprisal==0.1.7 transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'EOF'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import surprisal
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

engine = Tokenizer(models.BPE({letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
engine.decoder = decoders.ByteLevel()
engine.add_special_tokens(["<s>"])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, bos_token="<s>", eos_token="<s>")
torch.manual_seed(0)
shape = {"vocab_size": 257, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
model = GPT2LMHeadModel(GPT2Config(bos_token_id=256, eos_token_id=256, **shape))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
texts = torch.tensor([tokenizer("<s>ab" * 16).input_ids])  # every text is "ab"
for _ in range(100):
    model(texts, labels=texts).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.eval().save_pretrained("folder")
tokenizer.save_pretrained("folder")

ids = torch.tensor(tokenizer("<s>aba").input_ids)
with torch.no_grad():
    log_p = model(ids[None]).logits[0].double().log_softmax(-1)  # (T, types)
exact = -log_p[torch.arange(3), ids[1:]].numpy()
without_end = exact + np.log1p(-log_p[:3, 256].exp().numpy())
scored = surprisal.AutoHuggingFaceModel.from_pretrained("folder", model_class="causal")
found = scored.surprise(["aba"])[0].surprisals.astype(float)
print(f"nats of the model      {exact.round(3)}\nof the package         {found.round(3)}")
print(f"as if no text ended    {without_end.round(3)}")
within = scored.surprise(["ab<s>ab"])[0].surprisals.astype(float)
print(f"of an end within a text {within.round(3)}")
np.testing.assert_allclose(found, without_end, atol=1e-3)
assert exact[2] - found[2] > 3
assert np.isinf(within[2])
EOF
