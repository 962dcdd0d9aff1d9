"""lm_eval gets the scores of a single stream, however texts are batched and cut into windows."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import train_tokenizer
from pipeline.errors import UserError
from pipeline.export import lm_eval
from pipeline.export.checks import offline
from pipeline.export.hugging_face import export_hugging_face
from tests.export.exports import make_loaded, tokenizer_of


@pytest.mark.parametrize("cell", ["gru", "qrnn"])
def test_rows_of_any_length_are_scored_as_single_streams(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval, "WINDOW_TOKENS", 4)
    export_hugging_face(make_loaded(tokenizer_of("byte"), cell=cell), tmp_path / "m", num_texts=20, license_name="mit")
    with offline() as transformers:
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", trust_remote_code=True)
    rows = [list(range(40, 40 + length)) for length in (17, 1, 9, 2)]
    for row, (log_p, is_likeliest) in zip(rows, lm_eval.stream_scores(model, rows), strict=True):
        assert len(log_p) == len(is_likeliest) == len(row) - 1
        if len(row) < 2:
            continue
        with torch.no_grad():
            expected = model(torch.tensor([row[:-1]])).logits[0].log_softmax(-1)  # (T, V), in one window
        targets = torch.tensor(row[1:])
        torch.testing.assert_close(log_p, expected[torch.arange(len(targets)), targets], atol=1e-5, rtol=0)
        assert torch.equal(is_likeliest, expected.argmax(-1) == targets)


@pytest.mark.parametrize("num_documents", [1, 2])
def test_a_text_without_a_context_is_read_after_what_a_text_begins_with(
    num_documents: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="byte"), [], num_documents=num_documents)
    export_hugging_face(make_loaded(tokenizer), tmp_path / "m", num_texts=20, license_name="mit")
    with offline() as transformers:
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", trust_remote_code=True)
        read = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)

    class HFLM:
        """What lm_eval's model says of its prefix."""

        model: Any
        prefix_token_id = read.bos_token_id

    found: dict[str, Any] = {}
    registry, models = ModuleType("lm_eval.api.registry"), ModuleType("lm_eval.models.huggingface")
    registry.register_model = lambda name: lambda kind: found.setdefault(name, kind)  # type: ignore[attr-defined]
    models.HFLM = HFLM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval.api.registry", registry)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    lm_eval.register()
    asked = found["recurray"].__new__(found["recurray"])
    asked.model = model
    assert asked.prefix_token_id == int(tokenizer.start_ids[0]) == (ord("\n") if num_documents == 1 else 256)


def test_without_lm_eval_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"lm_eval is not installed: pip install 'lm_eval\[hf\]'"):
        lm_eval.register()
