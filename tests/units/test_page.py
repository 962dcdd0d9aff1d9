"""The page: nothing fetched from elsewhere, data that can be read back, escaped text; and the job that writes it."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.units import main
from pipeline import launch
from pipeline.config import Config
from pipeline.data.prepare import prepare_in_process
from pipeline.units import States, Unit, rank_units
from pipeline.units.features import features_of
from pipeline.units.page import page_of

TEXT = '</script><script>alert(1)</script> & <!-- "é" \u2028 \' {{data}} {{title}}\n'


def states_of(text: str) -> States:
    source = np.random.default_rng(1)
    values = {(0, "h"): source.normal(size=(len(text), 3)).astype(np.float32), (0, "c"): np.zeros((len(text), 2), "f4")}
    nats = source.random(len(text)).astype(np.float32)
    nats[0] = np.nan
    return States(np.frombuffer(text.encode("utf-32-le"), np.uint32) % 97, list(text), nats, values, np.zeros(1, int))


def data_of(page: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(found)


def refuse_references(page: str) -> None:
    """Assert that the page fetches nothing from elsewhere."""
    outside_data = re.sub(r'(?s)<script type="application/json".*?</script>', "", page)
    for pattern in (
        r"https?:",
        r"//[\w.]+\.\w+",
        r"\bsrc\s*=",
        r"\bhref\s*=",
        r"url\(",
        r"@import",
        r"fetch\(",
        r"<link",
    ):
        assert not re.search(pattern, outside_data), pattern
    assert "default-src 'none'" in page


def test_data_can_be_read_back_and_text_is_escaped() -> None:
    text = TEXT * 40
    states = states_of(text)
    states.nats[5] = np.inf  # which JSON has not
    findings = rank_units(states, features_of(states.pieces))
    page = page_of(states, findings, title=f"a <b> & {TEXT}", start=Unit(0, "h", 2), num_tokens=1000)
    refuse_references(page)
    assert "alert(1)</script>" not in page
    assert page.count("</script>") == 2
    assert "<title>a &lt;b&gt; &amp; &lt;/script&gt;" in page
    data = data_of(page)
    assert "".join(data["pieces"]) == text[:1000]
    assert data["title"] == f"a <b> & {TEXT}"
    assert data["start"] == "0.h.2"
    assert [place for place, nats in enumerate(data["nats"]) if nats is None] == [0, 5]
    for part in (slice(1, 5), slice(6, 1000)):
        assert data["nats"][part] == pytest.approx(states.nats[part].tolist(), abs=6e-4)
    for group in data["groups"]:
        rows = np.frombuffer(base64.b64decode(group["states"]), np.int8).reshape(group["size"], 1000)
        found = (rows / 127 * np.array(group["largest"])[:, None]).T
        own = states.values[group["layer"], group["part"]][:1000]
        assert (np.abs(found - own) <= np.array(group["largest"]) / 250).all()
    assert [each["feature"] for each in data["features"]] == [finding.feature.name for finding in findings]
    assert data["features"][0]["labels"] == findings[0].feature.values[:1000].tolist()


@pytest.fixture
def run(make_config: Callable[..., Config]) -> str:
    config = make_config({"model.cell": "lstm", "train.max_steps": 4})
    prepare_in_process(config)
    launch.train(config, launch.in_process)
    return str(config.run.directory)


def test_the_job(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = tmp_path / "states.parquet"
    capsys.readouterr()
    result = main(["--run", run, "--tokens", "500", "--shown", "300", "--states", str(states), "--unit", "1.c.3"])
    assert result is not None
    assert json.loads(json.dumps(result)) == result
    assert result["output"] == str(Path(run) / "units.html")
    page = Path(result["output"]).read_text()
    refuse_references(page)
    data = data_of(page)
    assert data["start"] == "1.c.3"
    assert len(data["pieces"]) == 300
    assert [(group["layer"], group["part"], group["size"]) for group in data["groups"]] == [
        (0, "h", 12), (0, "c", 12), (1, "h", 12), (1, "c", 12)
    ]  # fmt: skip
    table = pq.read_table(states)
    assert table.num_rows == 500
    assert "".join(table["text"].to_pylist()[:300]) == "".join(data["pieces"])
    out = capsys.readouterr().out
    assert re.search(r"position in line +R² +-?\d\.\d\d \(\d+\) +-?\d\.\d\d  [01]\.[hc]\.\d+ ", out)
    assert f"page: {result['output']}" in out

    (tmp_path / "other.txt").write_text("the cat sat on a mat\n" * 20)
    result = main(["--run", run, "--text", str(tmp_path / "other.txt"), "--output", str(tmp_path / "other.html")])
    assert result is not None
    assert result["tokens"] in (420, 421)  # without or with an end of the document
    for options, sentence in (
        (["--unit", "1.c.12"], r"^unit: 1\.c\.12: no such unit; there are 0\.h\.0 to 0\.h\.11, "),
        (["--tokens", "99"], r"^--tokens: 99 is not between 100 and 1,000,000"),
        (["--shown", "0"], r"^--shown: 0 is below 1"),
        (["--states", "x.csv"], r"^--states: x\.csv must end with \.parquet"),
        (["--output", str(tmp_path)], r"^output: "),
        (["--split", "test"], r"^split: the prepared corpus has no test split"),
        (["--text", str(tmp_path / "none")], r"^text: no file matches"),
    ):
        with pytest.raises(ValueError, match=sentence):
            main(["--run", run, *options])
    (tmp_path / "short.txt").write_text("the cat sat")
    with pytest.raises(ValueError, match=r"short\.txt has 1[12] tokens; at least 100 are needed"):
        main(["--run", run, "--text", str(tmp_path / "short.txt")])
