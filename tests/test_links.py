"""What the documents name exists: pages, files, settings, options, tags of TensorBoard. And their lines fit."""

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from jobs.__main__ import COMMANDS
from pipeline.config import Config, section_fields
from pipeline.training.monitor import SCALARS, WITH_TEXT

REPORTS = [*Path("docs/search").glob("*/report.md")]  # as searches wrote them
RECORDS = Path("benchmarks/records/README.md")
PAGES = [*Path().glob("*.md"), *Path("docs").glob("*.md"), *Path("benchmarks").glob("*.md"), RECORDS]
PAGES.append(Path("findings/README.md"))
MISTAKES = Path("docs/mistakes.md")  # it names what does not exist
LONGEST_LINE = 120
# what has the form of a setting and is none: files, a function, an example of a mistake
NO_SETTINGS = re.compile(r"\w+\.(csv|jsonl?|md|onnx|py|txt|yaml)|run\.train|model\.hiden_size")


def test_every_link_has_a_target() -> None:
    for page in [*PAGES, *REPORTS]:
        for link, heading in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
            target = page.parent / link if link else page
            assert "://" in link or target.exists(), f"{page}: {link}"
            assert not heading or heading in headings(target), f"{page}: {link}#{heading}"


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    found = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_the_index_lists_every_page() -> None:
    index = Path("docs/README.md").read_text(encoding="utf-8")
    for page in Path("docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page


def test_files_of_code_named_in_the_documents_exist() -> None:
    folder = r"(?<![\w/.-])((?:pipeline|jobs|tests|benchmarks|configs|findings)/[\w/.-]*"
    for page in [*PAGES, *Path("findings").glob("*.sh"), *Path("configs").glob("*.yaml")]:
        if page.name != "LOG.md":  # it mentions files that no longer exist
            text = page.read_text("utf-8")
            for name in re.findall(rf"`{folder})`", text) + re.findall(rf"{folder}\.(?:py|ya?ml|md|sh|csv)\b)", text):
                assert Path(name).exists(), f"{page}: {name}"


def code_in(page: Path) -> Iterator[str]:
    """What stands between backticks."""
    yield from re.findall(r"`([^`]+)`", re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8")))


def test_settings_named_in_the_documents_exist() -> None:
    fields = {section: section_fields(section) for section in Config.model_fields}
    named = re.compile(rf"(?<![\w./-])({'|'.join(fields)})\.(\w+)\b(?![./(])")
    for page in {*PAGES} - {MISTAKES, Path("benchmarks/LOG.md"), Path("docs/python.md")}:
        for text in code_in(page):
            for section, field in named.findall(text):
                is_other = NO_SETTINGS.fullmatch(f"{section}.{field}")
                assert field in fields[section] or is_other, f"{page}: {section}.{field}"


def test_options_named_in_the_documents_exist() -> None:
    modules = [importlib.import_module(f"jobs.{command}") for command in COMMANDS]
    actions = [action for module in modules for action in module.argument_parser()._actions]
    options = {name for action in actions for name in action.option_strings}
    for page in [path for path in PAGES if path.parts[0] == "docs" and path != MISTAKES] + [Path("README.md")]:
        for text in code_in(page):
            found = set(re.findall(r"(?:^|\s)(--[a-z][\w-]*)", text)) if "benchmarks/" not in text else set()
            if not text.startswith(("ray ", "lm_eval", "tensorboard")):
                assert found <= options, f"{page}: {found - options}"


def test_the_record_and_the_tags_of_tensorboard_are_described() -> None:
    page = Path("docs/resuming.md").read_text(encoding="utf-8")
    for kind in ("start", "running", *SCALARS, *WITH_TEXT):
        assert f"`{kind}`" in page, kind
    for tag in [tag for tags in SCALARS.values() for tag in tags.values()]:
        assert f"`{tag}`" in page, tag


def test_lines_fit() -> None:
    others = [*Path("configs").glob("*.yaml"), Path("cluster.yaml"), Path("Makefile")]
    for path in [*PAGES, *others]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert len(line) <= LONGEST_LINE or line.startswith("|") or path.name == "LOG.md", f"{path}:{number}"


def test_every_finding_can_be_run() -> None:
    for script in Path("findings").glob("*.sh"):
        assert os.access(script, os.X_OK), script
