"""A folder for transformers: ``AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)``.

config.json  generation_config.json  model.safetensors  modeling_recurray.py  tokenizer.json  tokenizer_config.json
README.md (the card)

The folder is written under a temporary name, read back by transformers and compared with the model; only then does it
get its final name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pipeline.data.tokenizer import Tokenizer
from pipeline.errors import UserError
from pipeline.export.card import model_card
from pipeline.export.checks import check_logits, check_tokenizer
from pipeline.export.fast_tokenizer import FastTokenizer, fast_tokenizer, serialized, settings
from pipeline.export.samples import checked_tokens, sample_texts
from pipeline.files import new_folder
from pipeline.model.head.build import cutoffs_for
from pipeline.training import checkpoint
from pipeline.training.checkpoint import Loaded

MODELING = "modeling_recurray.py"
# sample from all types, as we do; without top_k transformers keeps only the 50 likeliest
SAMPLING = {"do_sample": True, "top_k": 0}


def export_hugging_face(loaded: Loaded, folder: Path, *, num_texts: int, license_name: str) -> None:
    """Write ``loaded`` to ``folder``, and compare the exported tokenizer with ours on ``num_texts`` texts.

    Raises:
        UserError: transformers is not installed, the model attends to the past, or transformers does not read back
            what we have; nothing is written then.
    """
    if loaded.model.attends:
        raise UserError(
            f"the modeling file of this format has recurrent layers only, no attention ({loaded.model.attends}); "
            "the format torch holds any model",
            argument="format",
        )
    check_installed()
    fast = fast_tokenizer(loaded.tokenizer)
    texts = sample_texts(loaded, num_texts)
    with new_folder(folder, argument="to") as temporary:
        _write(loaded, fast, temporary, license_name)
        check_tokenizer(loaded.tokenizer, temporary, texts)
        check_logits(loaded, temporary, checked_tokens(loaded))


def check_installed() -> None:
    """Raise ``UserError`` if transformers is not installed."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError("transformers is not installed: pip install 'recurray[hf]'", argument="format") from None


def _write(loaded: Loaded, fast: FastTokenizer, folder: Path, license_name: str) -> None:
    weights = checkpoint.weights_of(loaded.model.float())
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    shutil.copyfile(Path(__file__).with_name(MODELING), folder / MODELING)
    special = special_ids(loaded.tokenizer)
    _write_json(folder / "config.json", {**model_settings(loaded), **special})
    _write_json(folder / "generation_config.json", {**special, **SAMPLING})
    (folder / "tokenizer.json").write_text(serialized(fast), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", settings(fast))
    card = model_card(loaded, license_name=license_name)
    (folder / "README.md").write_text(card, encoding="utf-8")


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that a text without a prompt is read after, that end a text, and that pad shorter texts.

    Without an end of text there is none for padding, though the tokenizer pads with the unknown type: given ids alone,
    generate would take unknown words of a prompt for padding and leave them out.
    """
    ids = {"bos_token_id": int(tokenizer.start_ids[0])}
    if tokenizer.eos_id is not None:
        ids |= {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.eos_id}
    return ids


def model_settings(loaded: Loaded) -> dict[str, Any]:
    """``config.json`` without its special ids: the arguments of ``RecurrayConfig``."""
    model, config = loaded.model, loaded.config.model
    vocab_size, embedding_size = model.embedding.weight.shape
    name = MODELING.removesuffix(".py")
    return {
        "architectures": ["RecurrayForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{name}.RecurrayConfig",
            "AutoModelForCausalLM": f"{name}.RecurrayForCausalLM",
        },
        "model_type": "recurray",
        "dtype": "float32",
        "vocab_size": vocab_size,
        "cell": config.cell,
        "hidden_sizes": config.layer_sizes,
        "embedding_size": embedding_size,
        "num_wide": config.num_layers if config.qrnn_wide_layers == "all" else 1,
        "num_heads": config.num_heads,
        "slstm_forget_gate": config.slstm_forget_gate,
        "mogrifier_rounds": config.mogrifier_rounds,
        "mogrifier_rank": config.mogrifier_rank,
        "layer_norm": config.layer_norm,
        "residual": config.residual,
        "head": config.head,
        "adaptive_cutoffs": cutoffs_for(config, vocab_size) if config.head == "adaptive" else None,
        "adaptive_shrinkage": config.adaptive_div_value,
        "num_experts": config.num_experts,
        "tie_word_embeddings": config.tie_weights,
        "reset_after_token_id": model.reset_after,
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
