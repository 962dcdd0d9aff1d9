"""Surprisal before and after learning, against a plain version: one sentence at a time, plain SGD with torch."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import CorpusConfig
from pipeline.data.scoring import ScoringStreams
from pipeline.data.tokenizer import Tokenizer
from pipeline.data.windows import ArrayTokens
from pipeline.evaluate import text_held_out
from pipeline.evaluate.adaptation import AFTER, BEFORE, adapted_rows, with_adaptation
from pipeline.evaluate.dynamic import gradient_rms
from pipeline.evaluate.reading import Reading
from pipeline.evaluate.surprisal import surprisal_rows
from pipeline.model.language_model import LanguageModel
from pipeline.options import DynamicSettings
from tests.evaluate.test_words import TOKENIZERS, model_of

LINES = ["ab a  ba", "b", " ab ba ", "a ab a", "ab a  ba"]


def reading_of(tokenizer: Tokenizer, folder: Path, *, by_line: bool) -> Reading:
    (folder / "lines.txt").write_text("\n".join(LINES) + "\n")
    config = CorpusConfig(train=["x"])
    return Reading(tokenizer, text_held_out(tokenizer, str(folder / "lines.txt"), config, by_line=by_line))


def plain(
    model: LanguageModel, parts: list[list[int]], settings: DynamicSettings, window: int
) -> tuple[list[float], list[float]]:
    """Nats of all scored tokens before and after learning; each of ``parts`` is one token to read, then those to score.

    Gradients do not cross the border between two windows.
    """
    model = copy.deepcopy(model)
    parameters, before, after = list(model.parameters()), [], []
    trained = [parameter.detach().clone() for parameter in parameters]

    def nats(ids: list[int]) -> torch.Tensor:
        state, found = model.initial_state(1), []
        for inputs in torch.tensor(ids[:-1])[:, None].split(window):
            hidden, state = model(inputs, tuple(part.detach() for part in state))
            found.append(model.head.logits(hidden)[:, 0].log_softmax(-1))
        return -torch.cat(found)[torch.arange(len(ids) - 1), ids[1:]]

    for ids in parts:
        found = nats(ids)
        before += found.tolist()
        gradients = torch.autograd.grad(found.mean(), parameters)
        with torch.no_grad():
            for p, g, t in zip(parameters, gradients, trained, strict=True):
                p += settings.decay * (t - p) - settings.lr * g
            after += nats(ids).tolist()
    return before, after


@pytest.mark.parametrize("window", [3, 512])
@pytest.mark.parametrize("name", ["word", "char", "bpe"])
def test_sentences_learnt_one_at_a_time(
    name: str, window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = TOKENIZERS[name][0]()
    model, settings = model_of(tokenizer), DynamicSettings.of("sgd", lr=0.7, decay=0.01)
    weights = [parameter.clone() for parameter in model.parameters()]
    monkeypatch.setattr("pipeline.evaluate.reading.WINDOW_TOKENS", window)
    reading = reading_of(tokenizer, tmp_path, by_line=True)
    begin = int(tokenizer.start_ids[0])
    parts = [[begin, *tokenizer.encode_document(line).tolist()] for line in LINES]
    before, after = plain(model, parts, settings, window)
    rows = [list(adapted) for adapted in zip(*adapted_rows(model, reading, settings), strict=True)]
    tokens = [(one.nats, other.nats) for one, other in rows if one.level == "token"]
    assert tokens == [pytest.approx(pair, rel=1e-9) for pair in zip(before, after, strict=True)]
    assert sum(after) < sum(before)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))

    # words get their figures by the same convention, and those without learning stand beside them
    still = list(surprisal_rows(model, tokenizer, reading.text))
    joined = list(
        with_adaptation(surprisal_rows(model, tokenizer, reading.text), *adapted_rows(model, reading, settings))
    )
    for row, plain_row, (one, other) in zip(joined, still, rows, strict=True):
        assert row.nats == plain_row.nats
        assert (row.values[BEFORE], row.values[AFTER]) == (one.nats, other.nats)
    first = [row for row in joined if row.document == 0]
    assert [row.values[BEFORE] for row in first] == pytest.approx([row.nats for row in first])  # nothing is learnt yet


def test_a_tiny_learning_rate_changes_nothing(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bpe"][0]()
    model = model_of(tokenizer)
    for by_line in (True, False):
        reading = reading_of(tokenizer, tmp_path, by_line=by_line)
        still = [row.nats for row in surprisal_rows(model, tokenizer, reading.text)]
        for rows in zip(*adapted_rows(model, reading, DynamicSettings.of("sgd", lr=1e-12)), strict=True):
            assert rows[0].nats == pytest.approx(still.pop(0), abs=1e-9)
            assert rows[1].nats == pytest.approx(rows[0].nats, abs=1e-9)
        assert not still


def test_the_places_where_sentences_and_documents_begin(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["byte"][0]()
    by_line, running = (reading_of(tokenizer, tmp_path, by_line=is_on) for is_on in (True, False))
    lengths = [len(line) + 1 for line in LINES]  # including <eos> or the line's end
    assert by_line.units("sentence").tolist() == by_line.units("document").tolist()
    assert np.diff(by_line.units("sentence")).tolist() == [length + 1 for length in lengths]  # and the token read first
    assert running.units("document").tolist() == [0, running.end]
    # after the last line's end come <eos> and what follows the text
    assert np.diff(running.units("sentence")).tolist() == [*lengths, 2]


def test_learning_with_the_rms_rule_lowers_the_nats_of_words(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["char"][0]()
    model, reading = model_of(tokenizer), reading_of(tokenizer, tmp_path, by_line=True)
    training = ScoringStreams(ArrayTokens(reading.ids), num_streams=2, bptt=7)
    settings = DynamicSettings.of("rms", lr=1e-3)
    sums = np.zeros(2)
    for rows in zip(*adapted_rows(model, reading, settings, gradient_rms(model, training)), strict=True):
        sums += [row.nats if row.level == "word" else 0 for row in rows]
    assert sums[1] < sums[0]
