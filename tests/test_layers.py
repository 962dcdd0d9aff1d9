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


@pytest.mark.parametrize("job", ["prepare", "train", "search", "evaluate", "generate", "gradients", "export", "submit"])
def test_help_loads_neither_torch_nor_ray(job: str) -> None:
    modules = loaded_by(
        f"from jobs.{job} import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert not modules & {"torch", "ray", "pyarrow"}
