"""Use an exported folder in a Python that has transformers, accelerate, datasets and minicons.

    python use_tools.py FOLDER SENTENCES.json

Prints one line of JSON: minicons' nats of each token of each sentence, and the losses of 20 steps of Trainer.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from datasets import Dataset
from minicons import scorer
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments


def nats_of(folder: str, sentences: list[str]) -> list[list[float]]:
    """The nats of each sentence's tokens by minicons, without the end-of-text token that it puts first."""
    model = scorer.IncrementalLMScorer(folder, "cpu", tokenizer=folder, trust_remote_code=True)
    scored = model.token_score(sentences, bos_token=True, surprisal=True)
    return [[nats for _, nats in tokens[1:]] for tokens in scored]


def losses_of(folder: str, sentences: list[str]) -> list[float]:
    """The losses of 20 steps of fine-tuning on ``sentences``."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    texts = Dataset.from_dict({"text": sentences}).map(lambda row: tokenizer(row["text"]), remove_columns="text")
    with tempfile.TemporaryDirectory() as output:
        settings: dict[str, Any] = {"max_steps": 20, "learning_rate": 1e-2, "logging_steps": 1}
        arguments = TrainingArguments(output, use_cpu=True, report_to=[], save_strategy="no", **settings)
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        trainer = Trainer(model, arguments, train_dataset=texts, data_collator=collator)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    folder, sentences = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    print(json.dumps({"nats": nats_of(folder, sentences), "losses": losses_of(folder, sentences)}))
