"""Exported models in lm_eval, minicons and Trainer, which live in an environment of their own.

RECURRAY_TOOLS_PYTHON names its Python: torch, transformers, accelerate, datasets, lm_eval and minicons, nothing else.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.export.hugging_face import export_hugging_face
from pipeline.interface import Model
from tests.export.exports import DOCUMENTS, SENTENCES, make_loaded, tokenizer_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "tools.md"
PYTHON = os.environ.get("RECURRAY_TOOLS_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="RECURRAY_TOOLS_PYTHON names no Python with lm_eval and minicons"),
]
TASK = """
task: local_{kind}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: {kind}
test_split: test
target_delimiter: ""
{fields}
"""


def tool(*arguments: str, cwd: Path, python_path: str = "") -> str:
    """Run the other Python with ``arguments``; return what it prints."""
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": python_path}
    settings |= {"OMP_NUM_THREADS": "1", "HOME": str(cwd)}
    done = subprocess.run([str(PYTHON), *arguments], capture_output=True, text=True, env=settings, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module", params=["lstm", "mingru"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    folder = tmp_path_factory.mktemp("tools")
    loaded = make_loaded(tokenizer_of("byte"), cell=request.param)
    export_hugging_face(loaded, folder / "exported", num_texts=50, license_name="mit")
    return Model(loaded), folder


def test_minicons_gives_our_nats_and_trainer_learns(exported: tuple[Model, Path]) -> None:
    model, folder = exported
    sentences = [f"{i}: {SENTENCES[i % 4]}" for i in range(200)]
    (folder / "sentences.json").write_text(json.dumps(sentences))
    script = Path(__file__).with_name("use_tools.py")
    found = json.loads(tool(str(script), "exported", "sentences.json", cwd=folder).splitlines()[-1])
    for theirs, ours in zip(found["nats"], model.surprisal(sentences), strict=True):
        np.testing.assert_allclose(theirs, ours.nats, atol=1e-4)
    losses = found["losses"]
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5


def test_the_document_runs(exported: tuple[Model, Path]) -> None:
    _, folder = exported
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    # each block loads its own model; the last one continues with that of the first
    (folder / "document.py").write_text("\n".join([blocks[1], blocks[0], blocks[2]]), encoding="utf-8")
    assert "An object" not in tool("document.py", cwd=folder)
    assert (folder / "tuned").is_dir()


def test_lm_eval_gives_our_figures(exported: tuple[Model, Path]) -> None:
    model, folder = exported
    texts = ["".join(DOCUMENTS[:n]) for n in (1, 3, 16)] + ["".join(DOCUMENTS) * 3]
    rows: dict[str, list[dict[str, Any]]] = {
        "loglikelihood_rolling": [{"text": text} for text in texts],
        "multiple_choice": [
            {"text": a[:20], "choices": [a[20:40], b[5:25]], "gold": 0} for a in texts for b in DOCUMENTS
        ],
        "generate_until": [{"text": text[:30], "answer": "x"} for text in texts],
    }
    fields = {
        "loglikelihood_rolling": 'doc_to_text: ""\ndoc_to_target: "{{text}}"\nmetric_list: [{metric: bits_per_byte}]',
        "multiple_choice": 'doc_to_text: "{{text}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: gold\n'
        "metric_list: [{metric: acc}]",
        "generate_until": 'doc_to_text: "{{text}}"\ndoc_to_target: "{{answer}}"\nmetric_list: [{metric: exact_match}]\n'
        'generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}',
    }
    for kind, records in rows.items():
        file = folder / f"{kind}.jsonl"
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        (folder / f"{kind}.yaml").write_text(TASK.format(kind=kind, file=file, fields=fields[kind]))
    root = str(Path(__file__).parents[2])
    common = ["--tasks", ",".join(f"local_{kind}" for kind in rows), "--include_path", str(folder)]
    common += ["--device", "cpu", "--batch_size", "8", "--output_path", "results"]
    common += ["--log_samples", "--model_args"]
    tool("-m", "lm_eval", "--model", "hf", *common, "pretrained=exported,trust_remote_code=True", cwd=folder)
    ours = ["-m", "pipeline.export.lm_eval", "--model", "recurray", *common, "pretrained=exported"]
    tool(*ours, cwd=folder, python_path=root)
    first, second = [json.loads(path.read_text())["results"] for path in sorted((folder / "results").rglob("*.json"))]
    nats = sum(found.total for found in model.surprisal(texts))
    expected = nats / np.log(2) / sum(len(text.encode()) for text in texts)
    assert second["local_loglikelihood_rolling"]["bits_per_byte,none"] == pytest.approx(expected, abs=1e-4)
    assert first["local_multiple_choice"] == second["local_multiple_choice"]
    correct = []
    samples = sorted((folder / "results").rglob("samples_local_multiple_choice_*.jsonl"))[-1]
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        text, choices = sample["doc"]["text"], sample["doc"]["choices"]
        asked = [model.surprisal(text + choice)[0].total for choice in choices]
        before = model.surprisal(text.rstrip())[0].total  # lm_eval counts blanks at the end among what it scores
        theirs = [float(response[0][0]) for response in sample["resps"]]
        np.testing.assert_allclose(theirs, [before - nats for nats in asked], atol=1e-3)
        correct.append(asked[0] <= asked[1])
    assert len(correct) == len(rows["multiple_choice"])
    assert second["local_multiple_choice"]["acc,none"] == pytest.approx(np.mean(correct))
