"""Running text in the columns of neural-complexity; ``test_stimuli`` has those of stimuli."""

from pathlib import Path

import torch

from pipeline.config import CorpusConfig, ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import train_tokenizer
from pipeline.evaluate import text_held_out
from pipeline.evaluate.neural_complexity import lines, write_complexity
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.evaluate.words import Row
from pipeline.model.language_model import LanguageModel


def test_each_line_of_running_text_is_a_sentence(tmp_path: Path) -> None:
    """They are told apart by their ends, since all are in one document."""
    text = "the cat sat\nthe mat\n"
    (tmp_path / "story.txt").write_text(text)
    tokenizer = train_tokenizer(TokenizerConfig(kind="word", eos="line"), [text], num_documents=1)
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(hidden_size=6), tokenizer.vocab_size)
    corpus = CorpusConfig(train=["x"], document="file")
    held_out = text_held_out(tokenizer, str(tmp_path / "story.txt"), corpus)
    write_complexity(str(tmp_path / "out.txt"), surprisal_rows(model, tokenizer, held_out))
    cells = [line.split(" ") for line in (tmp_path / "out.txt").read_text().splitlines()[1:]]
    assert [cell[:3] for cell in cells] == [
        ["the", "0", "0"], ["cat", "0", "1"], ["sat", "0", "2"], ["the", "1", "0"], ["mat", "1", "1"],
    ]  # fmt: skip
    assert [cells[place][6] for place in (0, 3)] == ["0.0", "0.0"]


def test_a_document_without_an_end_is_a_sentence() -> None:
    """Its number is that of the document, also if one before it has no words."""
    words = [Row("word", b"a", 0, 0, 1.0, entropy_nats=1.0), Row("word", b"b", 2, 0, 1.0, entropy_nats=0.5)]
    assert [line.split()[:3] for line in lines(words)] == [["a", "0", "0"], ["b", "2", "0"]]
