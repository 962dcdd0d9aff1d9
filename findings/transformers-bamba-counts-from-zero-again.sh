#!/usr/bin/env bash
# Bamba and MiniMax of transformers, called with the cache of a text, take the next token for the first of a text.
# Version: transformers 5.24.0, torch 2.13.0 (CPU).
# Guess: where position_ids are not given, positions go on from the length of the cache, as in every other decoder of
# the library (Falcon-H1 is shown): one token a call with the cache gives the logits of one call.
# Seen: the state and the keys go on, but positions begin at 0 in each call, so the attention layers see all distances
# wrong. Bamba does not ask the cache; MiniMax asks for the length of layer 0, a linear layer, which is always 0. With
# position_ids written out both are right, and generate writes them out; a loop of one's own that scores or writes token
# by token does not. There is no warning, and the logits look like those of a worse model.
# For us: tests/export/test_hugging_face.py reads texts in one call and in parts; give such models position_ids.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    transformers==5.24.0 torch==2.13.0 numpy==2.4.6
cd "$work"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'EOF'
import torch
import transformers

transformers.logging.set_verbosity_error()
shape = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
mamba = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 4}
experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
kinds = {
    "Bamba": {**mamba, "attn_layer_indices": [1]},
    "MiniMax": {**experts, "layer_types": ["linear_attention", "full_attention"], "head_dim": 8, "block_size": 4},
    "FalconH1": {**mamba, "mamba_d_ssm": 64, "head_dim": 8},
}
START, LENGTH = 8, 12


def token_by_token(model, tokens, with_positions):
    """The logits of the second part, read one token a call after the first part."""
    cache, found = model(tokens[:, :START], use_cache=True).cache, []
    for place in range(START, LENGTH):
        more = {"position_ids": torch.tensor([[place]])} if with_positions else {}
        output = model(tokens[:, place : place + 1], cache=cache, use_cache=True, **more)
        cache = output.cache
        found.append(output.logits)
    return torch.cat(found, dim=1)


errors = {}
for kind, more in kinds.items():
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**shape, **more)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    tokens = torch.randint(3, 40, (1, LENGTH))
    with torch.no_grad():
        exact = model(tokens).logits[:, START:]
        for with_positions in (False, True):
            error = (token_by_token(model, tokens, with_positions) - exact).abs().max().item()
            errors[kind, with_positions] = error
            print(f"{kind}, position_ids {'given' if with_positions else 'left out'}: error of the logits {error:.6f}")
for kind in kinds:
    assert errors[kind, True] < 1e-3
    assert errors[kind, False] < 1e-3 if kind == "FalconH1" else errors[kind, False] > 0.1
EOF
