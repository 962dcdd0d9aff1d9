#!/usr/bin/env bash
# RWKV of transformers, given one token for each text of a batch and their state, mixes the texts with one another.
# Version: transformers 5.24.0, torch 2.13.0 (CPU).
# Guess: the texts of a batch, of one length and without padding, have nothing to do with one another: generate writes
# after each what it writes after it alone, and one token for each of B texts gives logits of (B, 1, types).
# Seen: the logits are (B, B, types): each text reads B tokens instead of one, made of its own and of the last input of
# every text. generate continues without a word, with other tokens than for a text alone; three equal prompts go wrong
# too. A batch of one is right, and so is any with use_cache=False, or with two tokens or more for each text.
# For us: tests/export/test_hugging_face.py has an exported model write in batches with and without its state.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'EOF'
import torch
from transformers import RwkvConfig, RwkvForCausalLM

torch.manual_seed(0)
model = RwkvForCausalLM(RwkvConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, eos_token_id=None)).eval()
for parameter in model.parameters():
    if parameter.dim() > 1:
        torch.nn.init.normal_(parameter, std=0.3)
prompts = torch.randint(2, 50, (3, 6))


def written(texts, **options):
    mask = torch.ones_like(texts)
    how = {"attention_mask": mask, "max_new_tokens": 10, "do_sample": False, "pad_token_id": 0}
    return model.generate(texts, **how, **options)[:, texts.shape[1] :].tolist()


alone = [written(prompts[i : i + 1])[0] for i in range(3)]
found = {
    "each alone": alone,
    "a batch": written(prompts),
    "a batch, use_cache=False": written(prompts, use_cache=False),
    "the first three times": written(prompts[:1].repeat(3, 1)),
}
for name, tokens in found.items():
    print(f"{name}: {tokens}")
with torch.no_grad():
    whole = model(prompts).logits
    state = model(prompts[:, :4]).state
    two = model(prompts[:, 4:], state=[part.clone() for part in state]).logits
    state = model(prompts[:, :5]).state
    one = model(prompts[:, 5:], state=state).logits
print(f"logits of two tokens for each text: {tuple(two.shape)}; of one: {tuple(one.shape)}")
assert found["a batch, use_cache=False"] == alone
assert all(together != by_itself for together, by_itself in zip(found["a batch"], alone, strict=True))
assert found["the first three times"] != [alone[0]] * 3
assert two.shape == (3, 2, 50) and torch.allclose(two, whole[:, 4:], atol=1e-5)
assert one.shape == (3, 3, 50)
EOF
