"""lm_eval gets the scores of a single stream, however texts are batched and cut into windows."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import train_tokenizer
from pipeline.errors import UserError
from pipeline.export import lm_eval
from pipeline.export.checks import offline
from pipeline.export.hugging_face import export_hugging_face
from pipeline.interface import Model
from pipeline.training.checkpoint import Loaded
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


class HFLM:
    """What lm_eval's model for transformers does with a context, and with the tokens that a tokenizer names."""

    model: Any
    tokenizer: Any
    batch_size: int | str = 2
    cache_hook = SimpleNamespace(add_partial=lambda *_: None)

    @property
    def prefix_token_id(self) -> int | None:
        return self.tokenizer.bos_token_id

    def tok_encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        return self.tokenizer(text)["input_ids"]

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        whole, num_before = self.tok_encode(context + continuation), len(self.tok_encode(context))
        return whole[:num_before], whole[num_before:]


@pytest.fixture(params=[1, 2], ids=["one document", "documents"])
def asked(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Loaded]:
    """lm_eval's model of an exported folder, and the model itself; one document has no end."""
    tokenizer = train_tokenizer(TokenizerConfig(kind="byte"), [], num_documents=request.param)
    loaded = make_loaded(tokenizer)
    with torch.no_grad():  # what is likeliest then depends on the text before, not on the bias of the head alone
        for name, parameter in loaded.model.named_parameters():
            parameter *= 0 if name == "head.bias" else 3
    export_hugging_face(loaded, tmp_path / "m", num_texts=20, license_name="mit")
    found: dict[str, Any] = {}
    registry, models = ModuleType("lm_eval.api.registry"), ModuleType("lm_eval.models.huggingface")
    registry.register_model = lambda name: lambda kind: found.setdefault(name, kind)  # type: ignore[attr-defined]
    models.HFLM = HFLM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval.api.registry", registry)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    lm_eval.register()
    result = found["recurray"].__new__(found["recurray"])
    with offline() as transformers:
        result.model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", trust_remote_code=True)
        result.tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)
    return result, loaded


def test_a_text_without_a_context_is_read_after_what_a_text_begins_with(asked: tuple[Any, Loaded]) -> None:
    model, loaded = asked
    has_end = loaded.tokenizer.eos_id is not None
    assert model.prefix_token_id == int(loaded.tokenizer.start_ids[0]) == (256 if has_end else ord("\n"))


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
def test_a_continuation_has_our_nats_whatever_it_continues(asked: tuple[Any, Loaded], batch_size: int | str) -> None:
    """Also one that begins with the very token that stands before a text: that token is scored as any other."""
    model, loaded = asked
    model.batch_size = batch_size
    pairs = [("", "a cat"), ("", "\nThe cat"), ("The cat", " sleeps."), ("\n", "x"), ("a line\n", "\n")]
    found = model.loglikelihood([SimpleNamespace(args=pair) for pair in pairs])
    for (context, continuation), (log_p, _) in zip(pairs, found, strict=True):
        nats = Model(loaded).surprisal(context + continuation)[0].nats[len(context) :]
        assert log_p == pytest.approx(-nats.sum(), abs=1e-4)


def test_prompts_of_a_batch_are_continued_as_each_alone(asked: tuple[Any, Loaded]) -> None:
    """By the likeliest token, one after another, after what a text begins with."""
    model, loaded = asked
    prompts = ["The cat", "a", "no text is as long"]
    ids, mask = model.tok_batch_encode(prompts, left_truncate_len=lm_eval.UNLIMITED, truncation=False)
    assert mask.sum(1).tolist() == [8, 2, 19]
    how = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = model.model.generate(ids, attention_mask=mask, **how)[:, ids.shape[1] :]
    assert written.tolist() == [likeliest(loaded, prompt, 9) for prompt in prompts]
    # the test could not fail if the padding, or what a text begins with, made no difference
    misread = model.model.generate(ids, attention_mask=torch.ones_like(mask), **how)[:, ids.shape[1] :]
    assert misread.tolist()[:2] != written.tolist()[:2]
    without = [likeliest(loaded, prompt, 9, begin=[]) for prompt in prompts]
    assert without != written.tolist()


def likeliest(loaded: Loaded, prompt: str, number: int, begin: list[int] | None = None) -> list[int]:
    """The likeliest tokens after ``prompt``, each read in its turn."""
    before = loaded.tokenizer.start_ids.tolist() if begin is None else begin
    tokens = torch.tensor([*before, *loaded.tokenizer.encode(prompt).tolist()]).unsqueeze(1)
    state, found = loaded.model.initial_state(1), []
    with torch.no_grad():
        for _ in range(number):
            hidden, state = loaded.model(tokens, state)
            tokens = loaded.model.head.logits(hidden[-1:]).argmax(-1)
            found.append(int(tokens))
    return found


def test_nothing_stops_at_an_end_of_text_that_the_tokenizer_does_not_have(asked: tuple[Any, Loaded]) -> None:
    model, loaded = asked
    end = model.tok_decode(model.tokenizer.eos_token_id, skip_special_tokens=False)
    assert end == (None if loaded.tokenizer.eos_id is None else "<eos>")
    assert model.tok_decode([ord("a"), ord("b")]) == "ab"


def test_without_lm_eval_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"lm_eval is not installed: pip install 'lm_eval\[hf\]'"):
        lm_eval.register()
