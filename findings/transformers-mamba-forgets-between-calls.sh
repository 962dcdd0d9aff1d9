#!/usr/bin/env bash
# Mamba of transformers, given several tokens of a text and the cache of those before, begins with an empty state.
# Version: transformers 5.24.0, torch 2.13.0 (CPU, its own implementation of the scan).
# Guess: a text read in two calls, the second with the cache of the first, gets the logits of one call. That is what the
# state of a recurrent model is for, and it holds for Mamba-2 of the same library.
# Seen: it holds for one token a call. Two or more begin with a state of zeros; only the window of the convolution is
# handed over, three tokens. With one layer all logits of the second call are the same to the last bit whatever the text
# before those three was. FalconMamba does the same. There is no warning.
# For us: the state of an exported model may be handed on with any number of tokens (tests/export/test_hugging_face.py).
# To score long texts with Mamba in windows, hand over one token per call.
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


def in_two_calls(model, tokens, step):
    """The logits of the second half, read by ``step`` tokens a call after the first half."""
    cache, found = model(tokens[:, :12], use_cache=True).cache, []
    for part in tokens[:, 12:].split(step, dim=1):
        output = model(part, cache=cache, use_cache=True)
        cache = output.cache
        found.append(output.logits)
    return torch.cat(found, dim=1)


shape = {"vocab_size": 50, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 1}
heads = {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 4}
readings = {
    "one call": lambda model, tokens: model(tokens).logits[:, 12:],
    "then one token a call": lambda model, tokens: in_two_calls(model, tokens, 1),
    "then 12 tokens a call": lambda model, tokens: in_two_calls(model, tokens, 12),
}
errors, traces = {}, {}
for kind, more in {"Mamba": {}, "FalconMamba": {}, "Mamba2": heads}.items():
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**shape, **more)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(0, 50, (1, 24))
    other = tokens.clone()
    other[:, :9] = torch.randint(0, 50, (1, 9))  # the last 3 of the first half stay: the convolution reaches no further
    with torch.no_grad():
        exact = model(tokens).logits[:, 12:]
        for name, read in readings.items():
            logits = read(model, tokens)
            errors[kind, name] = (logits - exact).abs().max().item()
            traces[kind, name] = (logits - read(model, other)).abs().max().item()
            print(f"{kind}, {name}: error {errors[kind, name]:.6f}, trace of the first 9 {traces[kind, name]:.6f}")
for kind in ("Mamba", "FalconMamba", "Mamba2"):
    assert errors[kind, "then one token a call"] < 1e-4
    assert min(traces[kind, name] for name in list(readings)[:2]) > 0.01
assert errors["Mamba2", "then 12 tokens a call"] < 1e-4
for kind in ("Mamba", "FalconMamba"):
    assert errors[kind, "then 12 tokens a call"] > 0.01
    assert traces[kind, "then 12 tokens a call"] == 0
EOF
