"""Read exported folders and compare figures, in a Python that has transformers but neither this project nor Ray.

Beside each folder lies ``FOLDER.npz``: token ids with our logits after each, prompts with our greedy continuations.
Prints a line per folder and exits with 1 if one differs.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# an import of these now raises ImportError, whatever is installed
sys.modules.update(pipeline=None, jobs=None, ray=None)  # type: ignore[arg-type]

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def differences(folder: Path) -> list[str]:
    """What differs from the figures in ``FOLDER.npz``."""
    expected = np.load(f"{folder}.npz")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    found = []
    ids = torch.from_numpy(expected["ids"])  # (T,)
    with torch.no_grad():
        logits = model(ids[None]).logits[0].numpy()
    if (largest := abs(logits - expected["logits"]).max()) > 1e-5:
        found.append(f"logits differ by {largest:.2g}")
    prompts = torch.from_numpy(expected["prompts"])  # (P, T)
    settings = {"do_sample": False, "eos_token_id": None, "max_new_tokens": expected["continuations"].shape[1]}
    written = model.generate(prompts, attention_mask=torch.ones_like(prompts), **settings)
    differing = (written[:, prompts.shape[1] :].numpy() != expected["continuations"]).any(1).sum()
    if differing:
        found.append(f"{differing} of {len(prompts)} continuations differ")
    text, text_ids = str(expected["text"]), expected["text_ids"].tolist()
    if tokenizer(text, add_special_tokens=False)["input_ids"] != text_ids:
        found.append("the ids of the text differ")
    return found


if __name__ == "__main__":
    failed = False
    for name in sys.argv[1:]:
        found = differences(Path(name))
        failed |= bool(found)
        print(f"{Path(name).name}: {'; '.join(found) or 'equal'}")
    sys.exit(failed)
