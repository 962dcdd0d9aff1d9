"""Exported folders in transformers: the same numbers in a process without this project, and all common uses."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from jobs import export as export_job
from pipeline.config import TokenizerConfig
from pipeline.data.tokenizer import LoadedTokenizer, SentencePieceTokenizer, train_tokenizer
from pipeline.errors import UserError
from pipeline.export.checks import check_logits, check_tokenizer, offline
from pipeline.export.fast_tokenizer import fast_tokenizer
from pipeline.export.hugging_face import export_hugging_face
from tests.data.sentencepiece_models import train
from tests.data.test_loaded import without_unknown
from tests.export.exports import (
    CELLS,
    HEADS,
    SENTENCES,
    TOKENIZERS,
    export_with_figures,
    is_possible,
    make_loaded,
    tokenizer_of,
)

READER = Path(__file__).with_name("read_exports.py")
# each cell, head and tokenizer at least once, tied and not, with norms, residuals and layers of several sizes
FEW: list[tuple[str, str, dict[str, Any]]] = [
    ("lstm", "bpe", {"head": "softmax", "tie_weights": True}),
    ("gru", "word", {"head": "adaptive", "layer_norm": True}),
    ("rnn", "char", {"head": "adaptive", "tie_weights": True}),
    ("gru_reset_before", "byte", {"head": "mixture", "tie_weights": True}),
    ("mingru", "sentencepiece", {"head": "mixture", "residual": True}),
    ("minlstm", "word", {"head": "softmax", "hidden_size": [10, 14], "residual": True}),
    ("qrnn", "char", {"head": "softmax", "qrnn_wide_layers": "all", "layer_norm": True}),
    ("qrnn", "bpe", {"head": "mixture", "tie_weights": True, "num_layers": 3}),
    ("slstm", "char", {"hidden_size": 12, "num_heads": 3, "residual": True}),
    ("slstm", "byte", {"num_heads": 1, "slstm_forget_gate": "exponential", "num_layers": 1}),
    ("lstm", "char", {"mogrifier_rounds": 3, "mogrifier_rank": 4, "layer_norm": True}),
]


def read_elsewhere(folders: list[Path]) -> str:
    """What ``read_exports.py`` prints for ``folders``; RECURRAY_OTHER_PYTHON can name a Python without this project."""
    python = os.environ.get("RECURRAY_OTHER_PYTHON", sys.executable)
    settings = {"OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"], "HOME": str(folders[0].parent)}
    done = subprocess.run([python, READER, *folders], capture_output=True, text=True, env=settings, cwd="/")
    return done.stdout + done.stderr


def test_other_programs_read_the_same_numbers(tmp_path: Path) -> None:
    folders = []
    for index, (cell, tokenizer, changes) in enumerate(FEW):
        folders.append(tmp_path / f"{index}-{cell}-{tokenizer}")
        export_with_figures(make_loaded(tokenizer_of(tokenizer), cell=cell, **changes), folders[-1], num_prompts=50)
    assert read_elsewhere(folders).splitlines() == [f"{folder.name}: equal" for folder in folders]


@pytest.mark.slow
def test_every_cell_head_and_tokenizer_gives_the_same_numbers(tmp_path: Path) -> None:
    folders = []
    for cell in CELLS:
        for head in HEADS:
            for tokenizer in TOKENIZERS:
                if is_possible(head, tokenizer):
                    folders.append(tmp_path / f"{cell}-{head}-{tokenizer}")
                    export_with_figures(make_loaded(tokenizer_of(tokenizer), cell=cell, head=head), folders[-1])
    assert read_elsewhere(folders).splitlines() == [f"{folder.name}: equal" for folder in folders]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"user_defined_symbols": ["<n>"]}, r"with symbols of its own \('<n>'\)"), ({"model_type": "word"}, "of words")],
)
def test_a_sentencepiece_model_that_transformers_would_read_differently_is_refused(
    options: dict[str, Any], reason: str
) -> None:
    tokenizer = SentencePieceTokenizer("document", train(SENTENCES, **options))
    with pytest.raises(UserError, match=f"^format: a SentencePiece model {reason}"):
        fast_tokenizer(tokenizer)


@pytest.fixture(scope="module", params=["lstm", "qrnn"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """Model and tokenizer as read by transformers, and their folder."""
    folder = tmp_path_factory.mktemp("hf") / "model"
    loaded = make_loaded(tokenizer_of("bpe"), cell=request.param, tie_weights=True)
    export_hugging_face(loaded, folder, num_texts=50, license_name="mit")
    with offline() as transformers:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    return model, tokenizer, folder


IDS = torch.arange(40, 60)[None]  # (1, T)


@pytest.mark.parametrize(
    "how", [{"do_sample": False}, {"do_sample": False, "num_beams": 4}, {"num_return_sequences": 3}]
)
def test_writing_with_the_state_equals_reading_everything_again(
    exported: tuple[Any, Any, Path], how: dict[str, Any]
) -> None:
    model, _, _ = exported
    written = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        written.append(model.generate(IDS, max_new_tokens=15, use_cache=use_cache, **how))
    assert torch.equal(*written)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_row_has_the_logits_and_state_of_the_row_alone(exported: tuple[Any, Any, Path], side: str) -> None:
    model, _, _ = exported
    short = IDS[:, 5:12]
    where = slice(-7, None) if side == "left" else slice(0, 7)
    batch, mask = torch.zeros(2, 20, dtype=torch.int64), torch.zeros(2, 20, dtype=torch.int64)
    batch[0], mask[0] = IDS[0], 1
    batch[1, where], mask[1, where] = short[0], 1
    together, alone = model(batch, attention_mask=mask), model(short)
    torch.testing.assert_close(together.logits[1, where], alone.logits[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(together.logits[0], model(IDS).logits[0], atol=1e-6, rtol=0)
    for layer, alone_layer in zip(together.cache.layers, alone.cache.layers, strict=True):
        for part, alone_part in zip(layer, alone_layer, strict=True):
            torch.testing.assert_close(part[1], alone_part[0], atol=1e-6, rtol=0)
    how = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = model.generate(batch, attention_mask=mask, **how)
    assert torch.equal(written[1, 20:], model.generate(short, **how)[0, 7:])


def test_it_samples_from_all_types(exported: tuple[Any, Any, Path]) -> None:
    model, _, _ = exported
    torch.manual_seed(0)
    drawn = model.generate(IDS, max_new_tokens=1, num_return_sequences=500)[:, -1]
    assert len(drawn.unique()) > 50  # to which transformers limits a model that says nothing


def test_the_tokenizer_puts_no_types_around_a_text(tmp_path: Path) -> None:
    engine = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "To": 2, "be": 3}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    engine.post_processor = processors.TemplateProcessing("[CLS] $A", None, [("[CLS]", 1)])  # type: ignore[assignment]
    export_hugging_face(
        make_loaded(LoadedTokenizer("document", engine)), tmp_path / "m", num_texts=20, license_name="mit"
    )
    with offline() as transformers:
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)
    assert tokenizer("To be")["input_ids"] == [2, 3]


@pytest.mark.parametrize("kind", ["char", "word", "sentencepiece"])
def test_the_tokenizer_reads_texts_in_the_form_of_the_corpus(kind: str, tmp_path: Path) -> None:
    ours = tokenizer_of(kind).of_form("NFC")
    export_hugging_face(make_loaded(ours), tmp_path / "m", num_texts=50, license_name="mit")
    with offline() as transformers:
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)
    ids = tokenizer_of(kind).encode("naïve cafés").tolist()
    ids = ids[:-1] if kind == "word" else ids  # without the end of its line
    assert theirs(["nai\u0308ve cafe\u0301s", "naïve cafés"])["input_ids"] == [ids, ids]


@pytest.mark.parametrize("kind", ["WordLevel", "BPE"])
def test_a_tokenizer_without_a_type_for_the_unknown_is_exported(kind: str, tmp_path: Path) -> None:
    ours = LoadedTokenizer("document", without_unknown(kind))
    export_hugging_face(make_loaded(ours), tmp_path / "m", num_texts=30, license_name="mit")
    with offline() as transformers:
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)
    assert theirs("the end of it")["input_ids"] == ours.encode("the end of it").tolist()


def test_an_unknown_word_of_a_prompt_is_no_padding(tmp_path: Path) -> None:
    """Also where the tokenizer has nothing else to pad with, because the corpus is one document."""
    ours = train_tokenizer(TokenizerConfig(kind="word", eos="none"), ["a cat sees a dog"], num_documents=1)
    export_hugging_face(make_loaded(ours), tmp_path / "m", num_texts=20, license_name="mit")
    with offline() as transformers:
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", trust_remote_code=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)
    assert (tokenizer.eos_token, tokenizer.pad_token) == (None, "<unk>")
    ids = tokenizer("a zebra sees", return_tensors="pt")["input_ids"]
    how = {"max_new_tokens": 1, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    torch.testing.assert_close(model.generate(ids, **how).logits[0], model(ids).logits[:, -1])


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_tokenizer_without_an_end_of_text_pads_with_a_type_that_the_model_does_not_have(
    kind: str, tmp_path: Path
) -> None:
    """What transformers itself advises for a tokenizer that cannot pad, without a type that takes probability."""
    ours = train_tokenizer(TokenizerConfig(kind=kind, eos="none"), SENTENCES, num_documents=1)  # type: ignore[arg-type]
    export_hugging_face(make_loaded(ours), tmp_path / "m", num_texts=20, license_name="mit")
    with offline() as transformers:
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", trust_remote_code=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m", trust_remote_code=True)
    assert (tokenizer.eos_token, tokenizer.pad_token) == (None, None)
    with pytest.raises(ValueError, match="does not have a padding token"):
        tokenizer(SENTENCES, padding=True)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    assert tokenizer.pad_token_id == ours.vocab_size == model.config.vocab_size
    how: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = tokenizer(SENTENCES[:2], padding=True, return_tensors="pt")
        alone = [tokenizer(text, return_tensors="pt")["input_ids"] for text in SENTENCES[:2]]
        written = model.generate(**batch, **how, pad_token_id=tokenizer.pad_token_id)[:, -5:]  # as a pipeline does
        for row, ids in zip(written, alone, strict=True):
            assert torch.equal(row, model.generate(ids, **how)[0, -5:])
    labels = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)(
        [tokenizer(text) for text in SENTENCES[:2]]
    )
    counted = [len(ids[0]) - 1 for ids in alone]
    losses = [model(ids, labels=ids).loss for ids in alone]
    expected = sum(loss * number for loss, number in zip(losses, counted, strict=True)) / sum(counted)
    torch.testing.assert_close(model(**labels).loss, expected)


def test_a_row_without_a_token_keeps_its_state(exported: tuple[Any, Any, Path]) -> None:
    model, _, _ = exported
    before = model(IDS[:, :10]).cache
    after = model(IDS[:, 10:], cache=before, attention_mask=torch.cat([torch.ones(1, 10), torch.zeros(1, 10)], 1)).cache
    assert all(map(torch.equal, sum(before.layers, ()), sum(after.layers, ())))


def test_it_takes_embeddings_and_a_state_and_returns_hidden_states(exported: tuple[Any, Any, Path]) -> None:
    model, _, _ = exported
    how = {"max_new_tokens": 10, "do_sample": False}
    whole = model.generate(IDS, **how)
    assert torch.equal(model.generate(inputs_embeds=model.get_input_embeddings()(IDS), **how)[0], whole[0, 20:])
    assert torch.equal(model.generate(IDS, cache=model(IDS[:, :10]).cache, **how), whole)
    parts = model(IDS, output_hidden_states=True).hidden_states
    assert [part.shape for part in parts] == [(1, 20, 10), (1, 20, 12), (1, 20, 12)]
    assert model(IDS, use_cache=False).cache is None
    assert model(IDS, return_dict=False)[0].shape == (1, 20, model.config.vocab_size)


def test_the_loss_is_the_mean_over_shifted_labels(exported: tuple[Any, Any, Path]) -> None:
    model, _, _ = exported
    labels = IDS.clone()
    labels[0, 4] = -100
    output = model(IDS, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits[0, :-1], labels[0, 1:])
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_exported_model_is_saved_and_read_again(exported: tuple[Any, Any, Path], tmp_path: Path) -> None:
    model, tokenizer, folder = exported
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with offline() as transformers:
        again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
        named = transformers.AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert (named.eos_token, named.bos_token, named.pad_token) == ("<eos>", "<eos>", "<eos>")
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\nlibrary_name: transformers\n")
    assert f"language model of {model.num_parameters():,} parameters" in card
    # a special type spelt out in a text becomes that type, as always in transformers, unless one asks for text
    assert named("<eos>")["input_ids"] == [tokenizer_of("bpe").eos_id]
    how = {"split_special_tokens": True}
    assert named("<eos>", **how)["input_ids"] == tokenizer_of("bpe").encode("<eos>").tolist()


def test_a_folder_that_does_not_match_the_model_is_refused(tmp_path: Path) -> None:
    loaded = make_loaded(tokenizer_of("char"))
    folder = tmp_path / "model"
    export_hugging_face(loaded, folder, num_texts=50, license_name="unknown")
    with torch.no_grad():
        loaded.model.head.bias[2] += 0.01
    with pytest.raises(UserError, match=r"logits differ from the model's by 0.01, more than 0.0001"):
        check_logits(loaded, folder, IDS[0].clamp(max=20).numpy())
    with pytest.raises(UserError, match=r"gives different ids for 'To be' than ours"):
        check_tokenizer(tokenizer_of("byte"), folder, ["To be"])


def test_the_command_refuses_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for argv, sentence in (
        (["--run", "none", "--to", str(there), "--format", "hf"], f"--to: {there} exists already"),
        (["--run", "none", "--to", str(tmp_path / "new"), "--format", "hf"], "none: no checkpoint there"),
        (
            ["--run", "none", "--to", "new", "--format", "onnx", "--license", "mit"],
            "--license: is a field of --format hf",
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            export_job.main(argv)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"transformers is not installed: pip install 'recurray\[hf\]'"):
        export_hugging_face(make_loaded(tokenizer_of("char")), tmp_path / "new", num_texts=1, license_name="mit")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
