"""The nats of words: sums over all token strings of a small language, and products over a text."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers

from pipeline.config import CorpusConfig, ModelConfig, TokenizerConfig
from pipeline.data.tokenizer import ByteTokenizer, LoadedTokenizer, SentencePieceTokenizer, Tokenizer, train_tokenizer
from pipeline.evaluate import text_held_out
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.evaluate.type_classes import BOUNDARY, END, WITHIN, classes_of_types, groups_of_types, places_of
from pipeline.evaluate.windows import window_of
from pipeline.evaluate.words import Row, Words
from pipeline.model.language_model import LanguageModel
from pipeline.scoring import scored_windows
from tests.data.sentencepiece_models import train

LINES = ["ab ba a b ab", "ba ab b a ba", "aab ab bba"] * 9
CONTEXT = "ab a"
MOST_STRINGS = 1000  # of tokens that are words or can become words


def trained(kind: str, **settings: object) -> Tokenizer:
    config = TokenizerConfig(kind=kind, eos="document", **settings)  # type: ignore[arg-type]
    return train_tokenizer(config, LINES, num_documents=len(LINES))


def sentencepiece(model_type: str, **options: object) -> Tokenizer:
    return SentencePieceTokenizer("document", train(LINES, vocab_size=12, model_type=model_type, **options))


def bpe_behind() -> Tokenizer:
    """White space behind: the last type of a word ends with a mark, as in the first BPE (Sennrich et al. 2016)."""
    types = ["a", "b", "a</w>", "b</w>", "ab", "ab</w>"]
    engine = HuggingFaceTokenizer(
        models.BPE({t: i for i, t in enumerate(types)}, [("a", "b"), ("a", "b</w>")], end_of_word_suffix="</w>")
    )
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder("</w>")
    return LoadedTokenizer("document", engine)


def bpe_apart() -> Tokenizer:
    """White space apart: it is a type of its own."""
    types = ["a", "b", " ", "ab", "ba"]
    engine = HuggingFaceTokenizer(models.BPE({t: i for i, t in enumerate(types)}, [("a", "b"), ("b", "a")]))
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.Split(" ", "isolated"), decoders.Fuse()
    return LoadedTokenizer("document", engine)


def word_piece() -> Tokenizer:
    """White space in front of every type that is not marked as the rest of a word."""
    types = ["[UNK]", "a", "b", "##a", "##b", "ab"]
    engine = HuggingFaceTokenizer(models.WordPiece({t: i for i, t in enumerate(types)}, unk_token="[UNK]"))
    engine.pre_tokenizer, engine.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece("##", cleanup=False)
    return LoadedTokenizer("document", engine)


# a function that makes it, and whether a word can be spelt with tokens in several ways
TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], bool]] = {
    "byte": (lambda: ByteTokenizer("document"), False),
    "char": (lambda: trained("char"), False),
    "word": (lambda: trained("word"), False),
    "bpe": (lambda: trained("bpe", vocab_size=261), True),
    "bpe, space behind": (bpe_behind, True),
    "bpe, space apart": (bpe_apart, True),
    "wordpiece": (word_piece, True),
    "unigram": (lambda: sentencepiece("unigram"), True),
    "unigram, space behind": (lambda: sentencepiece("unigram", treat_whitespace_as_suffix=True), True),
    "sentencepiece bpe": (lambda: sentencepiece("bpe"), True),
}


def types_of(tokenizer: Tokenizer) -> list[int]:
    """The types of the small language: letters and blanks, and last the end."""
    letters = set(b"ab \xef\xbf\xbd" if tokenizer.kind == "char" else b"ab ")
    found = [
        i for i in range(tokenizer.vocab_size) if len(data := tokenizer.decode_bytes(i)) > 0 and set(data) <= letters
    ]
    if tokenizer.kind == "word":
        found = [i for i in range(tokenizer.vocab_size) if i != tokenizer.eos_id]
    return [*found, tokenizer.eos_id]  # type: ignore[list-item]


def model_of(tokenizer: Tokenizer) -> LanguageModel:
    """A random model of the small language in float64."""
    torch.manual_seed(3)
    config = ModelConfig(hidden_size=6, num_layers=1, embedding_range=0.1, input_gain=1)
    model = LanguageModel(config, tokenizer.vocab_size).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        model.head.bias.fill_(-90.0)  # e⁻⁹⁰ for all types outside the language
        model.head.bias[types_of(tokenizer)] = torch.randn(len(types_of(tokenizer))).double()
    return model


def words_after(model: LanguageModel, tokenizer: Tokenizer, context: list[int], ends: Sequence[list[int]]) -> list[Row]:
    """The last word of ``context`` and each of ``ends``, as the program scores it."""
    rows = [[*tokenizer.start_ids.tolist(), *context, *end, 0] for end in ends]
    (part,) = scored_windows(
        model, [window_of([np.array(row) for row in rows])], groups=groups_of_types(tokenizer, model)
    )
    found = []
    for column, row in enumerate(rows):
        words, (*tokens, _) = Words(tokenizer), row[1:]
        places = places_of(part, column)
        pushed = [
            word
            for token, place in zip(tokens, places, strict=False)
            for word in words.push(token, tokenizer.decode_bytes(token), 0, place)
        ]
        found.append([*pushed, *words.finish(places[len(tokens)])][-1])
    return found


def log_probabilities(model: LanguageModel, tokenizer: Tokenizer, rows: Sequence[list[int]]) -> torch.Tensor:
    """ln p of every type after each prefix of each of ``rows``, which have one length: (rows, T + 1, V)."""
    ids = torch.tensor([[*tokenizer.start_ids.tolist(), *row] for row in rows]).t()
    with torch.no_grad():
        hidden, _ = model(ids, model.initial_state(len(rows)))
        return model.head.logits(hidden).log_softmax(-1).transpose(0, 1)


def is_open(pieces: Sequence[bytes]) -> bool:
    """Whether further tokens can continue the word, or the white space before it, that ``pieces`` make up."""
    return not any(piece.strip() and piece[-1:].isspace() for piece in pieces)


def is_one_word(pieces: Sequence[bytes]) -> bool:
    """Whether ``pieces`` are white space and then one word, which is not over before the last piece."""
    begin = next((i for i, piece in enumerate(pieces) if piece.strip()), None)
    if begin is None:
        return False
    return is_open(pieces[:-1]) and not any(piece[:1].isspace() for piece in pieces[begin + 1 :])


@pytest.mark.parametrize("is_first", [False, True], ids=["later", "first"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_probabilities_of_all_words_sum_to_one(name: str, is_first: bool) -> None:
    make, has_others = TOKENIZERS[name]
    tokenizer = make()
    model = model_of(tokenizer)
    *types, end = types_of(tokenizer)
    data = {i: tokenizer.decode_bytes(i) for i in types}
    context = [] if is_first else tokenizer.encode(CONTEXT).tolist()
    if tokenizer.kind == "word":
        units = [[i] for i in types]
        longest: list[list[int]] = []
        ends = [[end]]
    else:
        most_tokens = int(math.log(MOST_STRINGS, len(types)))
        strings = [list(s) for n in range(1, most_tokens + 1) for s in itertools.product(types, repeat=n)]
        units = [s for s in strings if is_one_word([data[i] for i in s])]
        spaces = [s for s in strings if not b"".join(data[i] for i in s).strip()]
        longest = [s for s in [*units, *spaces] if len(s) == most_tokens and is_open([data[i] for i in s])]
        ends = [[*space, end] for space in [[], *spaces] if len(space) < most_tokens]
    # the first word is taken relative to all that begin like it
    log_p = log_probabilities(model, tokenizer, [context])[0, -1]
    classes = classes_of_types(tokenizer)
    is_closed = not is_first and data.get(context[-1], b"")[-1:].isspace()
    known = 0.0
    if tokenizer.kind != "word" and not is_closed:
        begins = [WITHIN] if is_first and classes[units[0][0], WITHIN] else [BOUNDARY, END]
        units, longest, ends = ([s for s in part if classes[s[0], begins].any()] for part in (units, longest, ends))
        known = float(log_p[classes[:, begins].any(1)].logsumexp(0))

    found = [math.exp(-row.nats) for row in words_after(model, tokenizer, context, [*units, *ends])]
    left_out = 0.0  # all longer strings: words that are not over yet, and white space not followed by the end
    if longest:
        rows = log_probabilities(model, tokenizer, [[*context, *s] for s in longest])
        for s, row in zip(longest, rows, strict=True):
            raw = sum(row[len(context) + i, token] for i, token in enumerate(s))
            is_over = [BOUNDARY, END] if any(data[i].strip() for i in s) else [END]
            over = row[-1][classes[:, is_over].any(1)].exp().sum()
            left_out += math.exp(raw - known) * float(1 - over) if is_over != [END] else math.exp(raw - known)
    assert sum(found) + left_out == pytest.approx(1, abs=1e-6)
    assert left_out < 0.9
    assert all(0 <= p <= 1 for p in found)

    # the figure of a word is that of the tokenizer's own tokens for it; other tokens that spell it are the rest
    own = dict.fromkeys((tuple(unit) for unit in units), False)
    text_of = {unit: b"".join(data[i] for i in unit).decode() for unit in own}
    for unit in own:
        if is_first:
            ids = tokenizer.encode(text_of[unit].strip()).tolist()
        else:
            ids = tokenizer.encode(f"{CONTEXT} {text_of[unit].strip()}").tolist()[len(context) :]
        own[unit] = ids == list(unit)
    texts = {text_of[unit] for unit, is_own in own.items() if is_own}
    others = sum(p for unit, p in zip(own, found, strict=False) if text_of[unit] in texts and not own[unit])
    assert (others > 1e-4) == has_others
    assert others < sum(found)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_nats_of_words_and_the_end_sum_to_those_of_the_text(name: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[name][0]()
    model = model_of(tokenizer)
    lines = ["ab a  ba", "b", " ab ba ", "a ab a"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    text = text_held_out(tokenizer, str(tmp_path / "lines.txt"), CorpusConfig(train=["x"]), by_line=True)
    rows = {
        c: list(surprisal_rows(model, tokenizer, text, word_boundary=c)) for c in ("corrected", "preceding", "none")
    }
    for i, line in enumerate(lines):
        sums = {
            (convention, level): sum(row.nats for row in found if (row.level, row.document) == (level, i))
            for convention, found in rows.items()
            for level in ("token", "word")
        }
        ids = tokenizer.encode_document(line).tolist()
        log_p = log_probabilities(model, tokenizer, [ids])[0]
        total = -sum(float(log_p[t, token]) for t, token in enumerate(ids))
        assert sums["corrected", "token"] == sums["none", "token"] == pytest.approx(total, rel=1e-9)
        assert sums["preceding", "word"] == pytest.approx(total, rel=1e-9)
        classes = classes_of_types(tokenizer)
        known = 0.0
        if tokenizer.kind != "word":
            begins = [WITHIN] if classes[ids[0], WITHIN] else [BOUNDARY, END]
            known = float(log_p[0, classes[:, begins].any(1)].logsumexp(0))
        assert sums["corrected", "word"] == pytest.approx(total + known, rel=1e-9)
        assert sums["none", "word"] <= sums["preceding", "word"] + 1e-9
        words = [
            [row.to_json()["text"] for row in found if (row.level, row.document) == ("word", i)]
            for found in rows.values()
        ]
        assert words[0] == words[1] == words[2] == [*line.split(), "<eos>"]
        for row in rows["corrected"]:
            if row.level == "token" and row.document == i:
                p = log_p[row.position]
                assert row.entropy_nats == pytest.approx(float(-(p.exp() * p).sum()), rel=1e-9)
