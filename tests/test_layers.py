"""What each part may load: the core no Ray, the help neither torch nor Ray."""

import subprocess
import sys

import pytest


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


def test_the_core_does_not_load_ray() -> None:
    modules = loaded_by("import pipeline.launch, pipeline.run, pipeline.training.loop")
    assert "torch" in modules
    assert "ray" not in modules


@pytest.mark.parametrize(
    "job",
    ["prepare", "train", "search", "evaluate", "generate", "compress", "gradients", "export", "submit", "settings"],
)
def test_help_loads_neither_torch_nor_ray(job: str) -> None:
    modules = loaded_by(
        f"from jobs.{job} import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert not modules & {"torch", "ray", "pyarrow"}


REFUSED = [
    ("train", "--lr", "0.1"),
    ("train", "model.hiden_size=3"),
    ("train", "train.bptt=0"),
    ("train", "--config", "/nowhere.yaml"),
    ("train", "corpus.train=/nowhere/*.txt", "cluster.backend=local"),
    ("train", "cluster.address=127.0.0.1:1"),
    ("prepare", "corpus.valid=/nowhere.txt"),
    ("prepare", "--verify", "/nowhere"),
    ("search", "cluster.backend=local"),
    ("search", "search.space={train.bptt: [0]}"),
    ("evaluate", "--run", "/nowhere"),
    ("evaluate", "--run", "/nowhere", "--cache", "--cache-weight", "3"),
    ("generate", "--run", "/nowhere"),
    ("generate", "--run", "/nowhere", "--top-p", "3"),
    ("compress", "--run", "/nowhere"),
    ("gradients", "--run", "/nowhere"),
    ("export", "--run", "/nowhere", "--to", "/nowhere-else", "--format", "hf"),
    ("submit", "train", "train.bptt=0"),
]


def test_what_is_refused_at_once_loads_neither_torch_nor_ray() -> None:
    modules = loaded_by(
        "import importlib\nfrom pipeline.errors import UserError\n"
        f"for job, *argv in {REFUSED!r}:\n"
        "    try:\n"
        "        importlib.import_module(f'jobs.{job}').main(argv)\n"
        "    except UserError:\n"
        "        continue\n"
        "    raise AssertionError(f'{job} {argv} is not refused')"
    )
    assert not modules & {"torch", "ray"}
