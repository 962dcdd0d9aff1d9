"""Small samples of our own in the published layouts of benchmarks, with the words of the tiny text."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.evaluate.benchmarks.blimp import PARADIGMS
from pipeline.evaluate.benchmarks.marvin_linzen import FILES

PHENOMENA = {"anaphor_gender_agreement": "anaphor_agreement", "adjunct_island": "island_effects"}


def json_lines(path: Path, values: Iterable[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def blimp_pairs(paradigm: str) -> list[dict[str, object]]:
    """Two pairs of a file: one that can be compared with one prefix, and one with two."""
    common = {"linguistics_term": PHENOMENA.get(paradigm, "others"), "UID": paradigm, "field": "syntax"}
    one = {
        "sentence_good": "the cat sat on a mat", "sentence_bad": "the cat sat on a that",
        "one_prefix_method": True, "two_prefix_method": False, "one_prefix_prefix": "the cat sat on a",
        "one_prefix_word_good": "mat", "one_prefix_word_bad": "that", "pairID": "0",
    }  # fmt: skip
    two = {
        "sentence_good": "the dog ran to its home", "sentence_bad": "one dog ran to its home",
        "one_prefix_method": False, "two_prefix_method": True, "two_prefix_prefix_good": "the",
        "two_prefix_prefix_bad": "one", "two_prefix_word": "dog", "pairID": "1",
    }  # fmt: skip
    return [{**one, **common}, {**two, **common}]


def write_blimp(folder: Path) -> None:
    for paradigm in PARADIGMS:
        json_lines(folder / f"{paradigm}.jsonl", blimp_pairs(paradigm))


def suite(formulas: list[str], items: list[dict[str, list[str]]]) -> dict[str, object]:
    """A SyntaxGym suite; each of ``items`` gives the contents of the regions of each condition."""
    return {
        "meta": {"name": "sample", "metric": "sum"},
        "region_meta": {
            str(i): f"region {i}" for i in range(1, 1 + max(len(r) for item in items for r in item.values()))
        },
        "predictions": [{"type": "formula", "formula": formula} for formula in formulas],
        "items": [
            {
                "item_number": number,
                "conditions": [
                    {
                        "condition_name": name,
                        "regions": [{"region_number": i, "content": text} for i, text in enumerate(regions, start=1)],
                    }
                    for name, regions in item.items()
                ],
            }
            for number, item in enumerate(items, start=1)
        ],
    }


# worked by hand in docs/benchmarks-of-the-field.md and tests/evaluate/benchmarks/test_syntaxgym.py
AGREEMENT_SUITE = suite(
    ["(3;%match%) < (3;%mismatch%)"],
    [
        {"match": ["the cat", "by the dogs", "sits"], "mismatch": ["the cat", "by the dogs", "sit"]},
        {"match": ["the dogs", "by the cat", "sit"], "mismatch": ["the dogs", "by the cat", "sits"]},
    ],
)


def write_syntaxgym(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agreement.json").write_text(json.dumps(AGREEMENT_SUITE))
    other = suite(
        ["[(2;%good%) < (2;%bad%)] & [(*;%good%) < (*;%bad%)]", "(2;%good%) = (2;%bad%)"],
        [{"good": ["the cat", "sat", "", "on a mat"], "bad": ["the cat", "mat", "", "on a sat"]}],
    )
    (folder / "order.json").write_text(json.dumps(other))


AGREEMENT_HEAD = "pattern\tconstr_id\tsent_id\tcorrect_number\tform\tclass\ttype\tprefix\tn_attr\tsent\n"


def write_agreement(folder: Path) -> None:
    """Two sentences of a treebank and three of nonsense."""
    lines = [AGREEMENT_HEAD]
    sentences = [("0", "the dog that ran", "sat", "sit"), ("1", "a cat by some river", "saw", "see"),
                 ("2", "the old home that sat", "ran", "run"), ("0", "one mat and a cat", "ran", "run"),
                 ("3", "its river", "sat", "sit")]  # fmt: skip
    for constr, (sent, prefix, good, bad) in enumerate(sentences):
        for form, kind in ((good, "correct"), (bad, "wrong")):
            what = "original" if sent == "0" else "generated"
            quoted = f'"{prefix} {form} "" home "" <eos>"'
            lines.append(f"N_V\t{constr}\t{sent}\tsing\t{form}\t{kind}\t{what}\t{prefix}\t0\t{quoted}\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "generated.tab").write_text("".join(lines))


def write_marvin_linzen(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for group, names in FILES.items():
        for name in names:
            pair = ("the cat sat", "the cat mat")
            item = (*pair, "the that sat") if group == "npi" else pair
            (folder / f"{name}.pickle").write_bytes(pickle.dumps({"sing": [item], "plur": [item]}, protocol=2))


STORIES = {"1": "The cat sat on a mat and saw one dog", "2": "some old river ran by its home"}


def write_natural_stories(folder: Path) -> None:
    """Two stories; the table of times is sorted by word, as the published one is."""
    words = [(item, zone, word) for item, text in STORIES.items() for zone, word in enumerate(text.split(), start=1)]
    folder.mkdir(parents=True, exist_ok=True)
    table = "".join(f"{word}\t{zone}\t{item}\n" for item, zone, word in words)
    (folder / "all_stories.tok").write_text("word\tzone\titem\n" + table)
    times = "".join(
        f"{word}\t{zone}\t{item}\t80\t{300 + 7 * len(word) + zone}.5\n"
        for item, zone, word in sorted(words, key=lambda w: w[2])
    )
    (folder / "processed_wordinfo.tsv").write_text("word\tzone\titem\tnItem\tmeanItemRT\n" + times)


def write_babylm(folder: Path) -> None:
    """The eight folders of the full evaluation."""
    for name in ("blimp_filtered", "supplement_filtered"):
        known = {"field": "syntax", "UID": "agreement", "linguistics_term": "x"} if name == "blimp_filtered" else {}
        pairs = [{"sentence_good": "the cat sat", "sentence_bad": "the cat that", **known}]
        json_lines(folder / name / "one.jsonl", pairs)
        json_lines(folder / name / "two.jsonl", pairs * 2)
    ewok = {"Domain": "social", "Context1": "the cat sat on a mat.", "Context2": "the dog ran.",
            "Target1": "the dog saw the cat.", "Target2": "the mat saw the cat."}  # fmt: skip
    json_lines(folder / "ewok_filtered" / "social.jsonl", [ewok])
    for group in ("regular", "ambiref", "move_contents"):
        options = [" the river", " a home", " one dog"]
        items = [{"input_prefix": "the mat and the cat sat by", "options": options, "numops": n} for n in (0, 1)]
        json_lines(folder / "entity_tracking" / f"{group}.jsonl", items)
    comps = {"prefix_acceptable": "the cat", "prefix_unacceptable": "the mat", "property_phrase": "ran to its home"}
    json_lines(folder / "comps" / "comps_base.jsonl", [comps])
    forms = [{"sentences": f"the cat sat by {w}\tthe cat sat by one {w}", "ratio": r}
             for w, r in (("dog", 0.9), ("mat", 0.2), ("home", 0.5), ("river", 0.7))]  # fmt: skip
    for name in ("wug_adj_nominalization", "wug_past_tense"):
        json_lines(folder / name / "forms.jsonl", forms)
    write_reading(folder / "reading")


def write_reading(folder: Path) -> None:
    """Times of the words of six sentences, one row per word; some are missing."""
    head = ["item", "word", "prev_item", "prev_word", "Subtlex_log10", "length", "context_length", "prev_length",
            "RTfirstfix", "RTfirstpass", "RTgopast", "RTrightbound", "self_paced_reading_time"]  # fmt: skip
    rows = [head]
    sentences = ["the cat sat on a mat", "one old dog ran to its home", "a river and some mat", "the dog saw that cat",
                 "its home by the old river", "some cat and one dog ran"]  # fmt: skip
    for number, sentence in enumerate(sentences):
        words = sentence.split()
        for place, word in enumerate(words):
            time = 200 + 13 * len(word) + 5 * place + 11 * ((number * 7 + place * 3) % 5)
            former = words[place - 1] if place else ""
            frequency = f"{5.5 - 0.7 * len(word) + 0.1 * ((number + place) % 3):.2f}"
            rows.append([" ".join(words[:place]), word, " ".join(words[: max(0, place - 1)]), former, frequency,
                         str(len(word)), str(place), str(len(former)) if place else "",
                         *(str(time + 3 * k * ((number + place) % 4)) for k in range(4)),
                         "" if (number, place) == (1, 1) else str(time)])  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reading_data.csv").write_text("".join(",".join(row) + "\n" for row in rows))


SAMPLES: dict[str, Callable[[Path], None]] = {
    "blimp": write_blimp,
    "blimp-one-prefix": write_blimp,
    "blimp-two-prefix": write_blimp,
    "syntaxgym": write_syntaxgym,
    "agreement": write_agreement,
    "marvin-linzen": write_marvin_linzen,
    "natural-stories": write_natural_stories,
    "babylm": write_babylm,
}
