"""Sentences about made-up figures, and a page that needs nothing but itself."""

import csv
import io
import re
from dataclasses import replace
from html import escape

import pytest

from pipeline.compare.findings import loss_at, reason_of
from pipeline.compare.page import as_html
from pipeline.compare.pictures import as_svg, perplexities, pictures_of
from pipeline.compare.searched import Searched
from pipeline.compare.sentences import listed_values, sentences
from pipeline.compare.speed import Timing
from pipeline.compare.table import as_csv, pairs_of, rows_of
from pipeline.compare.wording import p_of
from pipeline.search.standing import Trial
from tests.compare.figures import cost, findings, row, three_rows


def test_sentences_state_the_figures() -> None:
    found = sentences(findings(three_rows(), no_laws=dict.fromkeys(("lstm", "gru", "attends"), "3 runs are too few")))
    assert found["What was compared"] == [
        "3 variants of 1,000,000 parameters (from 995,000 to 1,004,000, at most 0.5% off) were trained on 5,000,000 "
        "tokens each, with 3 seeds, and scored on the valid split.",
        "The same split chose each run's best checkpoint: on other text, perplexities may be a little higher.",
    ]
    first, beaten = found["At equal tokens"]
    # exp(1.5) = 4.4817, exp(1.5005) = 4.4839
    assert re.fullmatch(
        r"The lowest perplexity is that of lstm, 4\.482 \(95 % .*\), followed by gru with 4\.484\.", first
    )
    assert beaten == "lstm is significantly better than attends."
    assert found["At equal time"][0] == (
        "After 50 s of training each, the validation perplexities are: gru 4.484, lstm 5.474, attends 6.050."
    )
    wins = found["Where a recurrent model wins here"]
    # 1 − exp(−0.1) = 9.5 %
    assert re.match(
        r"lstm is 0\.1000 nats a token better than attends at equal tokens \(95 %: 0\.0\d+ to 0\.1\d+\), a "
        r"perplexity 9\.5% lower; p = 0\.0", wins[0],
    )  # fmt: skip
    assert "Training time of 1,000 tokens, ms: gru 10 (2 times less), against 20 for attends." in wins
    assert (
        "Peak memory of training with windows of 256 tokens, MB: gru 0.9 (4.44 times less), lstm 1 (4 times less), "
        "against 4 for attends." in wins
    )
    after = (
        "Time of one more token after 10,000, ms: lstm 1 (8 times less), gru 1 (8 times less), against 8 for attends."
    )
    assert after in wins
    state = "lstm 1 (2,000 times less), gru 1 (2,000 times less), against 2,000 for attends."
    assert f"State that holds 10,000 tokens of context, kB: {state}" in wins
    # after a single token the Transformer is best, with 2.0 nats; after two or three tokens the LSTM
    (depth,) = [line for line in wins if "lowest loss after" in line]
    assert depth.startswith("lstm has the lowest loss after 2 to 3 (0.100 nats below attends")
    assert depth.endswith(" tokens of context; not tested.")
    # the LSTM's 2.5 minus 2.0; nothing is said about the 400 tokens of rare types
    assert found["Where it does not"] == [
        "attends has the lowest loss after 1 (0.500 nats below the best recurrent variant there) tokens of context; "
        "not tested."
    ]
    assert not any("times in training" in line for line in wins)
    assert found["Loss over size and tokens"] == ["L(N, D) is left out for all variants: 3 runs are too few."]
    (unsure, *_) = found["What was not significant"]
    assert re.match(
        r"At equal tokens, of 3 pairs, these are not significant .*: lstm and gru \(0\.0005 nats, p = ", unsure
    )


def test_the_page_says_which_values_a_search_tried_and_what_it_leaves_open() -> None:
    draws = [{"optimizer.lr": rate, "model.dropout": 0.1} for rate in (0.01, 0.001)]
    found = replace(findings(three_rows()), searched=Searched(draws, 1_000))
    assert sentences(found)["What was compared"][1:] == [
        "Each variant has the best of 2 draws (optimizer.lr: 0.001 and 0.01; model.dropout: 0.1), by the validation "
        "loss of one run each on 1,000 tokens, with a seed that is compared nowhere. No interval allows for another "
        "such run choosing differently.",
        "The runs that chose had 1,000 of these 5,000,000 tokens: what is best in them, a high learning rate above "
        "all, may not be the best in a whole run.",
        "The same split chose each run's best checkpoint and each variant's settings: on other text, "
        "perplexities may be a little higher.",
    ]
    assert not any("same split" in line for line in sentences(replace(found, split="test"))["What was compared"])
    many = Searched([{"train.bptt": number, "model.cell": "lstm"} for number in range(1_000, 0, -100)], 1)
    assert listed_values(many, "train.bptt") == "10 from 100 to 1,000"
    assert listed_values(many, "model.cell") == "lstm"


@pytest.mark.parametrize(
    ("p_value", "shown"),
    [(0.0342, "p = 0.034"), (0.0504, "p = 0.0504"), (0.04996, "p = 0.04996"), (0.05, "p = 0.05"), (9e-5, "p < 0.0001")],
)
def test_a_p_value_shows_on_which_side_of_the_level_it_is(p_value: float, shown: str) -> None:
    pair = findings(three_rows()).main.pairs[0]
    assert p_of(replace(pair, p_holm=p_value)) == shown


def test_the_reason_why_there_are_no_bits_per_byte_is_said() -> None:
    found = replace(findings(three_rows()), no_bits="2 of its tokens are <unk>, so they do not reproduce the text")
    assert sentences(found)["What was compared"][-1] == (
        "There are no bits per byte of the valid split: 2 of its tokens are <unk>, so they do not reproduce the text."
    )
    assert not any("bits per byte" in line for line in sentences(findings(three_rows()))["What was compared"])


def test_a_moved_target_is_said_together_with_the_one_asked_for() -> None:
    found = replace(findings(three_rows()), asked=(300_000, 950_000))
    assert sentences(found)["What was compared"][1] == (
        "950,000 parameters were asked for; 1,000,000 is the nearest number that all variants can have."
    )


def test_equal_time_says_which_runs_have_not_ended_and_which_ended_earlier() -> None:
    lines = sentences(findings(three_rows()))["At equal time"]
    assert lines[1] == "For lstm and attends that is in the middle of the runs, at the learning rate of that moment."
    lines = sentences(findings(three_rows(), seconds=75))["At equal time"]
    assert "By then all 5,000,000 tokens had been done by gru (after 50 s): these figures are for less time." in lines
    assert not any("varied over rounds" in line for line in lines)  # they vary by 1.1 ÷ 0.9


def test_costs_that_overlap_over_rounds_are_not_said_to_differ() -> None:
    """10 against 20 ms, but the slowest round of one was slower than the quickest of the other."""
    busy = replace(cost(seconds=1e-5), training=Timing(1e-5, 0.9e-5, 1.9e-5))
    rows = [
        row("gru", [1.5, 1.501], busy, cell="gru"),
        row("attends", [1.6, 1.601], cost(seconds=2e-5), cell="transformer"),
    ]
    found = sentences(findings(rows))
    assert not any("Training time" in line for lines in found.values() for line in lines)
    (line,) = [line for line in found["At equal time"] if "varied" in line]
    assert line == (
        "The time of a training step, which equal time is based on, varied over rounds by a factor of 2.1 (gru): no "
        "test allows for that."
    )
    calm = sentences(findings([row("gru", [1.5, 1.501], cost(seconds=1e-5), cell="gru"), rows[1]]))
    assert any(line.startswith("Training time") for line in calm["Where a recurrent model wins here"])


def test_of_two_transformers_none_is_called_recurrent() -> None:
    """The second Transformer has the lowest loss by position, so no recurrent variant wins there."""
    rows = [
        row("gru", [1.7, 1.701], cost(seconds=1e-5), cell="gru", first=3.0),
        row("far", [1.5, 1.501], cost(seconds=1e-5), cell="transformer", first=2.5),
        row("near", [1.6, 1.601], cost(seconds=1e-5), cell="transformer", first=2.0),
    ]
    found = sentences(findings(rows))
    assert not any("near has the lowest" in line for line in found.get("Where a recurrent model wins here", []))


def test_a_transformer_that_wins_is_said_to_win() -> None:
    rows = [
        row("gru", [1.6, 1.601, 1.599], cost(seconds=2e-5), cell="gru"),
        row("attends", [1.5, 1.501, 1.499], cost(seconds=1e-5, state=10), cell="transformer"),
    ]
    found = sentences(findings(rows))
    assert not any("nats a token better" in line for line in found.get("Where a recurrent model wins here", []))
    lines = found["Where it does not"]
    assert lines[0] == "attends is significantly better at equal tokens than gru by 0.1000 nats a token."
    assert "Training time of 1,000 tokens, ms: gru 20 (2 times as much), against 10 for attends." in lines


def test_without_a_transformer_none_is_mentioned() -> None:
    found = sentences(findings(three_rows()[:2]))
    assert "Where a recurrent model wins here" not in found
    assert "gru and lstm" not in str(found["At equal tokens"])
    assert found["At equal tokens"][1] == "No variant is significantly worse than lstm."


def test_a_best_value_at_an_end_of_the_searched_range_is_pointed_out() -> None:
    lstm, gru, attends = three_rows()
    rate = "optimizer.lr"
    rows = [
        replace(lstm, own={rate: 0.008}, at_end={rate: "highest"}),
        replace(gru, own={rate: 0.008}, at_end={rate: "highest"}),
        replace(attends, own={rate: 0.001}, at_end={rate: "lowest"}),
    ]
    assert sentences(findings(rows))["What was compared"][2:] == [
        "The highest optimizer.lr that was tried is the best for lstm (0.008) and gru (0.008): a better one may lie "
        "above it.",
        "The lowest optimizer.lr that was tried is the best for attends (0.001): a better one may lie below it.",
    ]


def test_draws_with_which_a_compared_run_diverged_are_named() -> None:
    lstm, gru, attends = three_rows()
    gru = replace(gru, own={"optimizer.lr": 0.002}, passed_over=[{"optimizer.lr": 0.008}, {"optimizer.lr": 0.004}])
    assert sentences(findings([lstm, gru, attends]))["What was compared"][2:] == [
        "A compared run of gru diverged with optimizer.lr 0.008 and optimizer.lr 0.004: it has optimizer.lr 0.002."
    ]


def test_the_reason_why_a_run_was_lost_names_no_folders_of_its_machine() -> None:
    folder = "/home/me/runs/trials/003-wild/checkpoints/step-00000007"
    for told, said in (
        (f"the loss is 979.6 (nats) (the last good checkpoint is {folder})", "the loss is 979.6 (nats)"),
        ("out of memory (there is no checkpoint yet)", "out of memory"),
        (f"OSError: {folder}: no space", "OSError: trials/003-wild/checkpoints/step-00000007: no space"),
        ("the worker died", "the worker died"),
    ):  # fmt: skip
        trial = Trial("003-wild", 3, {}, end={"status": "lost", "reason": told}, state="ended")
        assert reason_of(trial) == said


def test_a_comparison_with_a_single_seed_says_so() -> None:
    rows = [row("a", [1.5], cost(seconds=1e-5)), row("b", [1.6], cost(seconds=1e-5))]
    found = findings(rows)
    assert (
        "With a single seed nothing is known of other seeds: the tests are over the text alone."
        in sentences(found)["What was not significant"]
    )
    assert sentences(found)["At equal tokens"][1] == "a is significantly better than b as far as a single seed can say."
    assert (
        "At equal tokens the one pair is significant at 0.05 with Holm's correction."
        in sentences(found)["What was not significant"]
    )
    # no test was made at equal time, so there is no p-value and no interval
    assert (
        "At equal time no pair is tested: with a single seed each there is nothing to test."
        in sentences(found)["What was not significant"]
    )
    assert (pairs_of(found)[-1]["p_holm"], pairs_of(found)[-1]["low"]) == (None, None)
    page = as_html(found, {})
    assert "one seed" in page
    assert page.count("not tested") == page.count("not known") == 1
    lone = findings([row("a", [1.5], cost(seconds=1e-5)), row("b", [1.6, 1.601, 1.602], cost(seconds=1e-5))])
    assert (
        "For a there is only one seed: how much another would differ is estimated from the other variants."
        in sentences(lone)["What was not significant"]
    )


def test_a_curve_is_read_between_its_validations() -> None:
    curve = [(100, 3.0), (200, 2.0), (300, 2.5), (400, 1.0)]
    assert loss_at(curve, 100) == 3.0
    assert loss_at(curve, 150) == pytest.approx(2.5)
    assert loss_at(curve, 250) == pytest.approx(2.0)  # the worse validation at 300 does not count
    assert loss_at(curve, 350) == pytest.approx(1.5)
    assert loss_at(curve, 9_999) == 1.0
    assert loss_at(curve, 99) != loss_at(curve, 99)
    assert loss_at([], 5) != loss_at([], 5)


def test_the_page_needs_nothing_but_itself() -> None:
    found = findings([*three_rows(), row('<b>&"x"', [1.7, 1.71, 1.69], cost(seconds=3e-5))])
    drawn, missing = pictures_of(found)
    assert missing == ""
    assert len(drawn) == 6
    assert as_svg(perplexities(found.main)) == next(iter(drawn.values()))
    page = as_html(found, drawn)
    addresses = set(re.findall(r"(?i)(?:https?:)?//[^\s\"'<>]+", page))
    assert {
        address for address in addresses if not address.startswith("http://www.w3.org/")
    } == set()  # only SVG's namespaces
    for fetched in ("<script", "<link", "<img", "<iframe", "@import", "src=", "url(http"):
        assert fetched not in page
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page
    for lines in sentences(found).values():
        assert all(escape(line) in page for line in lines)


def test_the_table_has_every_figure() -> None:
    found = findings(three_rows())
    lines = list(csv.DictReader(io.StringIO(as_csv(rows_of(found)))))
    assert [line["variant"] for line in lines] == ["lstm", "gru", "attends"]
    assert float(lines[0]["perplexity"]) == pytest.approx(4.4817, abs=1e-4)
    assert float(lines[0]["bits_per_byte"]) == pytest.approx(1.5 / 0.6931472, abs=1e-5)
    assert float(lines[1]["tokens_per_second"]) == pytest.approx(100_000)
    assert (lines[2]["peak_bytes_256"], lines[2]["state_bytes_10000"]) == ("4000000", "2000000")
    assert lines[0]["own_settings"] == "model.cell=lstm"
    pairs = list(csv.DictReader(io.StringIO(as_csv(pairs_of(found)))))
    assert [(line["at_equal"], line["better"], line["worse"]) for line in pairs][:3] == [
        ("tokens", "lstm", "attends"), ("tokens", "gru", "attends"), ("tokens", "lstm", "gru"),
    ]  # fmt: skip
