"""What the scripts of benchmarks/ use of the project exists: they are run by hand, often long after it has changed."""

import ast
import importlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config.names import section_fields

SCRIPTS = sorted((Path(__file__).parents[2] / "benchmarks").rglob("*.py"))
SETTING = re.compile(rf"({'|'.join(Config.model_fields)})\.([a-z0-9_]+)")
ENDINGS = {"txt", "json", "pt"}  # of the names of files


def missing_names(tree: ast.Module) -> Iterator[str]:
    """The names that a script imports from the project and that are not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("pipeline", "jobs"):
            module = importlib.import_module(str(node.module))
            for name in (alias.name for alias in node.names):
                if not hasattr(module, name) and find_spec(f"{node.module}.{name}") is None:
                    yield f"{node.module}.{name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_and_sets_exists(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    assert list(missing_names(tree)) == []
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    settings = [match for text in strings if (match := SETTING.fullmatch(text)) and match[2] not in ENDINGS]
    assert [match[0] for match in settings if match[2] not in section_fields(match[1])] == []
