"""The Python interface: the same numbers as the jobs, texts read at once or in parts, and states to return to."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs import export, generate, train
from pipeline import interface, load
from pipeline.config import CorpusConfig
from pipeline.errors import UserError
from pipeline.evaluate import text_held_out
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.evaluate.words import WORD_BOUNDARIES
from pipeline.interface import Model
from pipeline.options import Sampling
from tests.export.exports import DOCUMENTS, make_loaded, tokenizer_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "python.md"
TEXTS = ["The quick brown fox", "", "It's 3.14, they'd said", "T", "To be, or not to be: that is the question."]


@pytest.fixture(
    params=[("lstm", "bpe"), ("gru", "char"), ("qrnn", "word"), ("minlstm", "sentencepiece"), ("slstm", "char")]
)
def model(request: pytest.FixtureRequest) -> Model:
    cell, tokenizer = request.param
    return Model(make_loaded(tokenizer_of(tokenizer), cell=cell))


def test_surprisal_agrees_with_the_log_probabilities(model: Model) -> None:
    scored = model.surprisal(TEXTS)
    for text, found in zip(TEXTS, scored, strict=True):
        if found.num_unknown == len(found.tokens) > 0:
            continue  # every token is unknown
        ids = model.ids(text)
        rows = model.log_probs(text)
        assert rows.shape == (len(ids) + 1, model.tokenizer.vocab_size)
        np.testing.assert_allclose(np.exp(rows).sum(1), 1, rtol=1e-5)
        np.testing.assert_allclose(found.nats, -rows[np.arange(len(ids)), ids], atol=1e-5)
        raw = model.surprisal(text, word_boundary="preceding")[0]
        assert sum(nats for _, nats in raw.words) == pytest.approx(found.total)
        alone = model.surprisal([text, TEXTS[0]])[0]  # it does not depend on the other texts
        assert alone.nats == pytest.approx(found.nats, abs=1e-5)
    best = model.next(TEXTS[0], 3)
    expected = np.exp(model.log_probs(TEXTS[0])[-1])
    assert [p for _, p in best] == pytest.approx(sorted(expected, reverse=True)[:3])


def test_a_state_is_reset_every_few_tokens_of_a_text_if_training_did_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "WINDOW_TOKENS", 4)
    loaded = make_loaded(tokenizer_of("byte"), cell="lstm")
    module, text = loaded.model, TEXTS[0]
    module.reset_every = 3
    model = Model(loaded)
    ids = model.ids(text)
    parts = [loaded.tokenizer.start_ids, *(ids[begin : begin + 3] for begin in range(0, len(ids), 3))]
    outputs: list[list[torch.Tensor]] = [[] for _ in parts]
    with torch.no_grad():
        embedded = [module.embedding(torch.from_numpy(part.astype(np.int64)).unsqueeze(1)) for part in parts]
        zero = module.initial_state(1)
        hidden = [module.recurrence(one, zero, outputs=of)[0] for one, of in zip(embedded, outputs, strict=True)]
        layers = [torch.cat(layer) for layer in zip(*outputs, strict=True)]
        expected = module.head.logits(torch.cat(hidden)[:, 0]).log_softmax(-1).numpy()
    rows = model.log_probs(text)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    both = model.surprisal([text, "T"])
    np.testing.assert_allclose(both[0].nats, -rows[np.arange(len(ids)), ids], atol=1e-5)
    for mine, theirs in zip(model.hidden_states(text), layers, strict=True):
        np.testing.assert_allclose(mine, theirs[1:, 0], atol=1e-5)
    for cuts in ([1], [3], [2, 3, 4, 9], [5, 6]):
        model.state = model.start
        for begin, end in zip([0, *cuts], cuts, strict=False):
            model.read(text[begin:end])
        np.testing.assert_allclose(model.log_probs(text[cuts[-1] :]), rows[cuts[-1] :], atol=1e-5)
    greedy = Sampling(temperature=0)
    model.state = model.start
    whole = model.generate(text, num_tokens=9, sampling=greedy)
    model.read(text[:5])
    assert model.generate(text[5:], num_tokens=9, sampling=greedy) == whole


def test_what_comes_before_a_text_leaves_no_state_if_training_reset_it_there() -> None:
    loaded = make_loaded(tokenizer_of("byte"), cell="lstm")
    module, text = loaded.model, TEXTS[0]
    module.reset_after = loaded.tokenizer.eos_id
    assert module.reset_after is not None
    model = Model(loaded)
    ids = model.ids(text)
    outputs: list[torch.Tensor] = []
    with torch.no_grad():
        embedded = module.embedding(torch.from_numpy(ids).unsqueeze(1))
        hidden, _ = module.recurrence(embedded, module.initial_state(1), outputs=outputs)
        expected = module.head.logits(hidden[:, 0]).log_softmax(-1).numpy()
    rows = model.log_probs(text)
    np.testing.assert_allclose(rows[1:], expected, atol=1e-5)
    both = model.surprisal([text, "T"])
    np.testing.assert_allclose(both[0].nats, -rows[np.arange(len(ids)), ids], atol=1e-5)
    for mine, theirs in zip(model.hidden_states(text), outputs, strict=True):
        np.testing.assert_allclose(mine, theirs[:, 0], atol=1e-5)
    for cuts in ([0], [1], [2, 5], [1, 2, 3]):
        model.state = model.start
        for begin, end in zip([0, *cuts], cuts, strict=False):
            model.read(text[begin:end])
        np.testing.assert_allclose(model.log_probs(text[cuts[-1] :])[-1], rows[-1], atol=1e-5)
    module.reset_after = None
    model.state = model.start
    assert not np.allclose(model.log_probs(text)[1:], expected, atol=1e-2)


def test_words_have_the_nats_of_the_job_s_table(model: Model, tmp_path: Path) -> None:
    lines = [TEXTS[0], TEXTS[2], TEXTS[4]]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    text = text_held_out(model.tokenizer, str(tmp_path / "lines.txt"), CorpusConfig(train=["x"]), by_line=True)
    for convention in WORD_BOUNDARIES:
        rows = list(surprisal_rows(model.model, model.tokenizer, text, word_boundary=convention))
        for i, found in enumerate(model.surprisal(lines, word_boundary=convention)):
            words = [row.nats for row in rows if (row.level, row.document) == ("word", i) and row.data != b"<eos>"]
            assert [nats for _, nats in found.words] == pytest.approx(words, abs=1e-4)
    with pytest.raises(UserError, match=r"word_boundary: 'after' is not one of corrected, preceding, none"):
        model.surprisal(lines, word_boundary="after")  # type: ignore[arg-type]


def test_a_word_after_a_state_has_the_nats_that_it_has_in_the_whole_text(model: Model) -> None:
    first, second = "The quick ", "brown fox"
    if len(model.ids(first)) + len(model.ids(second)) != len(model.ids(first + second)):
        first, second = "The quick", " brown fox"
    if len(model.ids(first)) + len(model.ids(second)) != len(model.ids(first + second)):
        pytest.skip("this tokenizer joins the two parts")
    whole = model.surprisal(first + second)[0].words
    model.read(first)
    assert [nats for _, nats in model.surprisal(second)[0].words][-1] == pytest.approx(whole[-1][1], abs=1e-4)
    if second[0] == " ":
        assert model.surprisal(second)[0].words[0][1] == pytest.approx(whole[-2][1], abs=1e-4)


def test_long_texts_are_read_in_windows_that_carry_the_state(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(TEXTS)
    whole = model.surprisal([text, TEXTS[0]]), model.log_probs(text), model.hidden_states(text)
    monkeypatch.setattr("pipeline.interface.WINDOW_TOKENS", 3)
    parts = model.surprisal([text, TEXTS[0]]), model.log_probs(text), model.hidden_states(text)
    for a, b in zip(whole[0], parts[0], strict=True):
        np.testing.assert_allclose(a.nats, b.nats, atol=1e-5)
    np.testing.assert_allclose(whole[1], parts[1], atol=1e-5)
    for a, b in zip(whole[2], parts[2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_hidden_states_are_those_that_the_head_reads(model: Model) -> None:
    hidden = model.hidden_states(TEXTS[0])
    assert [part.shape for part in hidden] == [(len(model.ids(TEXTS[0])), 12)] * 2
    logits = model.model.head.logits(torch.from_numpy(hidden[-1][-1:]))
    np.testing.assert_allclose(logits.log_softmax(-1)[0].detach(), model.log_probs(TEXTS[0])[-1], atol=1e-5)


def test_every_call_begins_from_the_model_s_state(model: Model) -> None:
    first, second = "The quick ", "brown fox"
    if len(model.ids(first)) + len(model.ids(second)) != len(model.ids(first + second)):
        pytest.skip("this tokenizer joins the two parts")
    whole = model.log_probs(first + second)
    before = model.state
    here = model.read(first)
    np.testing.assert_allclose(model.log_probs(second), whole[len(model.ids(first)) :], atol=1e-5)
    written = model.generate("", num_tokens=5, sampling=Sampling(temperature=0))
    model.read(second)
    model.state = here  # return to the saved state
    assert model.generate("", num_tokens=5, sampling=Sampling(temperature=0)) == written
    model.state = before
    np.testing.assert_allclose(model.log_probs(first + second), whole, atol=1e-6)


def test_the_beginning_that_is_assigned_again_is_the_beginning(model: Model) -> None:
    prompts = ["", "The quick"]
    written = model.generate(prompts, num_tokens=20)
    model.state = model.state
    assert model.generate(prompts, num_tokens=20) == written


def test_a_stop_is_a_string_or_several() -> None:
    model = Model(make_loaded(tokenizer_of("char")))
    (whole,) = model.generate("The ", num_tokens=60)
    stop = whole[10:13]  # whose characters come earlier, too
    assert min(map(whole.index, stop)) < whole.index(stop)
    for stops in (stop, [stop], (stop, "no such text")):
        assert model.generate("The ", num_tokens=60, stops=stops) == [whole[: whole.index(stop)]]


def test_half_a_character_and_fewer_than_no_tokens_are_refused(model: Model) -> None:
    for ask in (model.ids, model.read, model.log_probs, model.surprisal, model.hidden_states):
        with pytest.raises(UserError, match=r"^'The \\udcff' is not UTF-8$"):
            ask("The \udcff")
    assert model.next("The ", 0) == []
    with pytest.raises(UserError, match=r"^k: must be at least 0, not -1$"):
        model.next("The ", -1)


def test_reading_nothing_changes_nothing(model: Model) -> None:
    start = model.read("")
    assert start.token == model.start.token
    assert not any(bool(part.any()) for part in start.parts)
    assert model.hidden_states("")[0].shape[0] == len(model.surprisal("")[0].nats) == 0


def test_a_text_goes_on_from_what_was_read() -> None:
    model = Model(make_loaded(tokenizer_of("word"), cell="gru"))
    for text, space in (("The quick", " "), ("The quick\n", "")):
        model.read(text)
        (written,) = model.generate("", num_tokens=1, sampling=Sampling(temperature=0))
        assert written == space + written.strip()
    for prompt, sentence in (("zebra", "prompt 1: the model knows no word of 'zebra'"), ("a\udcff", "is not UTF-8")):
        with pytest.raises(UserError, match=sentence):
            model.generate(prompt)
    model = Model(make_loaded(tokenizer_of("char")))
    model.read("The ")
    with pytest.raises(UserError, match="has none of these characters: 'Ж'"):
        model.generate("Жa")


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a few steps on bytes."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text("".join(DOCUMENTS) * 20, encoding="utf-8")
    settings = ["tokenizer.kind=byte", "model.hidden_size=12", "train.max_steps=5", "train.batch_size=4"]
    settings += ["train.bptt=10", "run.sample_tokens=0", "cluster.backend=local", "cluster.cpus_per_worker=1"]
    directories = [f"run.directory={folder}/run", f"data.directory={folder}/data"]
    train.main([f"corpus.train={folder}/text.txt", *directories, *settings])
    return f"{folder}/run"


def test_it_writes_the_same_as_the_job_and_opens_every_kind_of_model_folder(run_directory: str, tmp_path: Path) -> None:
    model = load(run_directory)
    output = tmp_path / "texts.jsonl"
    argv = ["--run", run_directory, "--prompt", "The fox", "--tokens", "20", "--seed", "3", "--output", str(output)]
    generate.main(argv)
    (text,) = model.generate("The fox", num_tokens=20, seed=3)
    assert text
    assert json.loads(output.read_text())["text"].endswith(text)
    checkpoint = next((Path(run_directory) / "checkpoints").iterdir())
    export.main(["--run", run_directory, "--to", f"{tmp_path}/torch", "--format", "torch"])
    for path in (checkpoint, tmp_path / "torch"):
        assert load(path).log_probs("fox").tolist() == model.log_probs("fox").tolist()
    with pytest.raises(UserError, match="none: no checkpoint there"):
        load(tmp_path / "none")


def test_the_document_runs(run_directory: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block.replace("runs/quickstart", run_directory), names)
        assert isinstance(names["model"], Model)


def test_text_unknown_to_the_tokenizer_is_counted_or_refused() -> None:
    model = Model(make_loaded(tokenizer_of("char")))
    assert [found.num_unknown for found in model.surprisal(["The fox", "The 東 fox 京"])] == [0, 2]
    for ask in (model.surprisal, model.log_probs, model.next, model.read, model.hidden_states):
        with pytest.raises(UserError, match="東京"):
            ask("東京")


def test_importing_pipeline_loads_no_torch() -> None:
    program = "import sys, pipeline; assert 'torch' not in sys.modules; pipeline.load; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
