"""Text that depends on the seed and not on the batch, and beams against every possible text."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.terminal.conversation import Conversation
from pipeline.config import Layout, ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import Tokenizer, train_tokenizer
from pipeline.errors import UserError
from pipeline.generate import (
    beam_search,
    generate,
    generate_batch,
    likeliest_texts,
    prompt_ids,
    read_prompts,
    save_rows,
)
from pipeline.generate.sampler import Sampler, read_prompt, sample_tokens
from pipeline.generate.sampling import penalize
from pipeline.generate.text import text_of
from pipeline.model.cpu import onednn, products
from pipeline.model.evaluating import evaluating
from pipeline.model.language_model import LanguageModel
from pipeline.model.stepper import Stepper
from pipeline.options import Sampling
from tests.model.reference import SETTINGS

TEXT = "the cat sat on the mat\nand the dog ran\n"


def make_tokenizer(kind: str) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind=kind), [TEXT * 20], num_documents=2)  # type: ignore[arg-type]


def make_model(vocab_size: int, **changes: object) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**{"hidden_size": 8, "num_layers": 2, **changes}), vocab_size)  # type: ignore[arg-type]


def test_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    logits, seen = torch.tensor([[2.0, 2.0, -3.0, -3.0]]), torch.tensor([[True, False, True, False]])
    assert penalize(logits, seen, 2.0).tolist() == [[1.0, 2.0, -6.0, -3.0]]
    model, prompt = make_model(6).double(), np.array([1, 1, 3])
    greedy = Sampling(temperature=0, repetition_penalty=1e6)
    tokens = list(sample_tokens(model, prompt, num_tokens=4, seed=1, sampling=greedy))
    with evaluating(model):
        first = penalize(read_prompt(model, prompt)[0], torch.tensor([[0, 1, 0, 1, 0, 0]], dtype=torch.bool), 1e6)
    assert tokens[0] == int(first.argmax())


@pytest.mark.parametrize("cell", SETTINGS)
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"embedding_size": 5, "tie_weights": True, "qrnn_wide_layers": "all"},
        {"last_hidden_size": 5},
        {"hidden_size": [5, 8, 8], "num_layers": 3, "layer_norm": True, "residual": True},
        {"attention": 1, "context": 3},
    ],
)
def test_single_steps_equal_the_model(cell: str, sizes: dict[str, object]) -> None:
    assert_single_steps_are_windows(make_model(11, **SETTINGS[cell], **sizes).double())


@pytest.mark.parametrize(
    "settings", [{"context": 3, "num_kv_heads": 2}, {"context": 0, "block_size": 4, "positions": "learned"}]
)
def test_single_steps_of_a_transformer(settings: dict[str, Any]) -> None:
    assert_single_steps_are_windows(make_model(11, cell="transformer", **settings).double())


def assert_single_steps_are_windows(model: LanguageModel) -> None:
    tokens = torch.randint(11, (6, 3), generator=torch.Generator().manual_seed(2))
    with evaluating(model):
        state = model.initial_state(3)
        hidden, end = model(tokens, state)
        expected = model.head.logits(hidden)
        stepper = Stepper(model)
        for step in range(6):
            logits, state = stepper(tokens[step], state)
            torch.testing.assert_close(logits, expected[step], rtol=1e-10, atol=1e-12)
        assert [part.shape for part in state] == [part.shape for part in end]
        # both states continue in the same way
        torch.testing.assert_close(model(tokens, state)[0], model(tokens, end)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "slstm", "mogrifier"])
@pytest.mark.parametrize("is_faster", [False, True])
def test_one_stepper_for_one_prompt_and_for_many(cell: str, is_faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two layouts of the weights, in float32, against the model in float64."""
    if is_faster and not onednn.has_products():
        pytest.skip("this torch has no products by oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: is_faster)
    model = make_model(11, **SETTINGS[cell])
    tokens = torch.randint(11, (4, 3), generator=torch.Generator().manual_seed(2))
    with evaluating(model):
        stepper = Stepper(model)
        found = []
        for columns in (slice(0, 1), slice(0, 3)):
            state = model.initial_state(tokens[:, columns].shape[1])
            for token in tokens[:, columns]:
                logits, state = stepper(token, state)
            found.append(logits)
        assert set(stepper.layouts) == {False, is_faster}
        exact = model.double()
        expected = exact.head.logits(exact(tokens, exact.initial_state(3))[0][-1])
    torch.testing.assert_close(found[0].double(), expected[:1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["byte", "char", "word", "bpe"])
def test_the_text_depends_only_on_the_seed(kind: str) -> None:
    tokenizer = make_tokenizer(kind)
    model = make_model(tokenizer.vocab_size)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model.train()
    one, two, other = ("".join(generate(model, tokenizer, "the", num_tokens=50, seed=seed)) for seed in (1, 1, 2))
    assert one == two != other
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    one.encode()  # the text is valid, whatever bytes were drawn


@pytest.mark.parametrize(("layout", "prompt"), [("documents", "the"), ("documents", ""), ("streams", "")])
def test_what_a_text_begins_with_is_no_repetition(layout: Layout, prompt: str) -> None:
    """Not the <eos> that is read before it: else documents would end later than the model says."""
    tokenizer = make_tokenizer("char")
    model = make_model(tokenizer.vocab_size)
    end, other = tokenizer.eos_id or 0, int(tokenizer.encode("m")[0])
    with torch.no_grad():
        model.head.weight.zero_()  # type: ignore[union-attr, operator]
        model.head.bias[[end, other]] = torch.tensor([4.0, 3.0])  # type: ignore[index, operator]
    greedy = Sampling(temperature=0, repetition_penalty=2.0)
    how: dict[str, Any] = {"num_tokens": 1, "seed": 1, "sampling": greedy, "layout": layout}
    drawn: list[int] = []
    "".join(generate(model, tokenizer, prompt, on_token=drawn.append, **how))
    (written,) = generate_batch(model, tokenizer, [prompt], **how)
    assert drawn == [end]
    assert "m" not in written.text
    # an <eos> that was written is one
    drawn.clear()
    "".join(generate(model, tokenizer, "", on_token=drawn.append, **{**how, "num_tokens": 2, "layout": "streams"}))
    assert drawn == [end, other]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=5, repetition_penalty=1.3), Sampling(min_p=0.05)])
def test_the_text_of_a_prompt_does_not_depend_on_the_batch(sampling: Sampling) -> None:
    tokenizer = make_tokenizer("char")
    model = make_model(tokenizer.vocab_size).double()
    prompts = ["the cat", "and", "the", "dog sat on", "the"]
    options = {"num_tokens": 40, "seed": 3, "sampling": sampling, "stops": ["at"]}
    alone = ["".join(generate(model, tokenizer, prompt, **options)) for prompt in prompts]  # type: ignore[arg-type]
    for at_once in (1, 2, 5):
        written = list(generate_batch(model, tokenizer, prompts, at_once=at_once, **options))  # type: ignore[arg-type]
        assert [item.text for item in written[:4]] == alone[:4]
        assert written[4].text != alone[4]  # the second of two equal prompts gets another draw
        again = list(generate_batch(model, tokenizer, prompts[::-1], at_once=at_once, **options))  # type: ignore[arg-type]
        assert sorted(item.text for item in again) == sorted(item.text for item in written)


def test_rows_that_stop_leave_the_others_as_they_are() -> None:
    model = make_model(9).double()
    prompts = [np.array([n]) for n in range(4)]
    whole = Sampler(model, prompts, seed=1, sampling=Sampling())
    tokens = np.array([whole.next() for _ in range(6)])  # (6, 4)
    part = Sampler(model, prompts, seed=1, sampling=Sampling())
    first = [part.next() for _ in range(2)]
    part.keep([1, 3])
    assert np.array_equal(first, tokens[:2])
    assert np.array_equal([part.next() for _ in range(4)], tokens[2:][:, [1, 3]])


def test_prompts() -> None:
    words, characters = make_tokenizer("word"), make_tokenizer("char")
    assert prompt_ids(words, "the cat").tolist() == words.encode("the cat")[:-1].tolist()
    assert prompt_ids(words, "the cat\n").tolist() == words.encode("the cat\n").tolist()
    assert prompt_ids(words, "").tolist() == [words.eos_id]
    with pytest.raises(ValueError, match="none of these characters: 'x' 'ß'"):
        prompt_ids(characters, "the ßox")
    for kind in ("word", "char", "byte", "bpe"):
        with pytest.raises(
            UserError, match=r"^prompt: 'the \\udcff' is not UTF-8$"
        ):  # as invalid bytes on a command line are read
            prompt_ids(make_tokenizer(kind), "the \udcff")
    with pytest.raises(ValueError, match=r"^prompt: the model knows no word of 'xylophones yodel'"):
        prompt_ids(words, "xylophones yodel")
    with pytest.raises(ValueError, match="prompt 2: ' ' holds no word"):
        prompt_ids(words, " ", argument="prompt 2")


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.5])
def test_a_wide_beam_finds_the_best_of_all_texts(penalty: float) -> None:
    vocab_size, num_tokens, eos = 4, 4, 0
    model, prompt = make_model(vocab_size, init_range=1.0).double(), np.array([1, 2])

    def log_probability(text: tuple[int, ...]) -> float:
        with evaluating(model):
            tokens = torch.tensor([*prompt, *text]).unsqueeze(1)
            hidden, _ = model(tokens, model.initial_state(1))
            rows = model.head.logits(hidden)[len(prompt) - 1 : -1, 0].log_softmax(1)
            return float(rows.gather(1, torch.tensor(text).unsqueeze(1)).sum())

    every = [
        text
        for length in range(1, num_tokens + 1)
        for text in itertools.product(range(vocab_size), repeat=length)
        if eos not in text[:-1] and (text[-1] == eos or length == num_tokens)
    ]
    best = max(every, key=lambda text: log_probability(text) / len(text) ** penalty)
    found = beam_search(
        model, prompt, num_tokens=num_tokens, num_beams=vocab_size**num_tokens, length_penalty=penalty, eos_id=eos
    )
    assert found.tokens == best
    assert found.log_probability == pytest.approx(log_probability(best), rel=1e-10)
    greedy = beam_search(model, prompt, num_tokens=num_tokens, num_beams=1)
    likeliest = sample_tokens(model, prompt, num_tokens=num_tokens, seed=1, sampling=Sampling(temperature=0))
    assert found.score >= log_probability(greedy.tokens) / num_tokens**penalty or eos in greedy.tokens
    assert greedy.tokens == tuple(likeliest)


def test_the_likeliest_text_ends_before_a_stop_string() -> None:
    tokenizer = make_tokenizer("word")
    model = make_model(tokenizer.vocab_size)
    ((whole, found),) = likeliest_texts(model, tokenizer, ["the"], num_tokens=6, num_beams=3)
    assert found.tokens
    assert whole == "".join(text_of(tokenizer, found.tokens, after="the"))
    ((text, same),) = likeliest_texts(model, tokenizer, ["the"], num_tokens=6, num_beams=3, stops=[whole[1:3]])
    assert (text, same) == (whole[: whole.index(whole[1:3])], found)


def test_a_conversation_goes_on_after_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = make_tokenizer("char")
    model = make_model(tokenizer.vocab_size)
    lines = iter(
        [
            "the",
            "/set tokens 7",
            "/set top-k 0",
            "/set seed x",
            "/set size 3",
            "/set temperature nan",
            "/set tokens 99999999999999999999",
            "/set seed 5",
            "Q",
            "the",
        ]
    )

    def answer(prompt: str) -> str:
        if (line := next(lines, None)) is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", answer)
    Conversation(model, tokenizer, 4, 1).run()
    written, complaints = capsys.readouterr()
    first = "".join(generate(model, tokenizer, "the", num_tokens=4, seed=1))
    last = "".join(generate(model, tokenizer, "the", num_tokens=7, seed=5))
    assert written == f"the{first}\nthe{last}\n\n"
    for sentence in (
        "error: top_k: 0 is below 1", "seed: 'x' is not a number", "the names are tokens", "'Q'",
        "temperature: nan is not a finite number of at least 0",
        "/set tokens: 99999999999999999999 is not between 1 and 1,000,000,000",
    ):  # fmt: skip
        assert sentence in complaints


def test_prompts_from_a_file_and_texts_into_one(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("one\ntwo\n")
    assert read_prompts(str(tmp_path / "prompts")) == ["one", "two"]
    (tmp_path / "prompts").write_bytes("one\u2028still one\r\ntwo\x0ctwo".encode())
    assert read_prompts(str(tmp_path / "prompts")) == ["one\u2028still one", "two\x0ctwo"]
    (tmp_path / "prompts").write_text("one\n \ntwo\n")
    with pytest.raises(ValueError, match="prompts line 2 is an empty prompt"):
        read_prompts(str(tmp_path / "prompts"))
    (tmp_path / "prompts").write_text("")
    with pytest.raises(ValueError, match="prompts is empty"):
        read_prompts(str(tmp_path / "prompts"))
    save_rows(str(tmp_path / "texts"), [{"text": "é\n"}, {"text": "b"}])
    rows = (tmp_path / "texts").read_text().splitlines()
    assert [json.loads(row)["text"] for row in rows] == ["é\n", "b"]
    with pytest.raises(ValueError, match=r"^output: .* cannot be written: No such file"):
        save_rows(str(tmp_path / "no" / "texts"), [])
