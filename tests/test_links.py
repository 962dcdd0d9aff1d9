"""Links between the documents: every linked page exists, and the index lists every page."""

import re
from pathlib import Path

PAGES = [*Path().glob("*.md"), *Path("docs").glob("*.md"), *Path("benchmarks").glob("*.md"), Path("findings/README.md")]


def test_every_link_has_a_target() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"


def test_the_index_lists_every_page() -> None:
    index = Path("docs/README.md").read_text(encoding="utf-8")
    for page in Path("docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page


def test_files_of_code_named_in_the_documents_exist() -> None:
    for page in PAGES:
        if page.name != "LOG.md":  # it mentions files that no longer exist
            for name in re.findall(r"`((?:pipeline|jobs|tests|benchmarks|configs)/[\w/.-]+)`", page.read_text("utf-8")):
                assert Path(name).exists(), f"{page}: {name}"
