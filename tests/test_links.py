"""The documents lead to one another: no page is missing, none is left out of the index."""

import re
from pathlib import Path

PAGES = [*Path().glob("*.md"), *Path("docs").glob("*.md"), *Path("benchmarks").glob("*.md"), Path("findings/README.md")]


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page}: {link}"


def test_the_index_lists_every_page() -> None:
    index = Path("docs/README.md").read_text(encoding="utf-8")
    for page in Path("docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page


def test_what_the_documents_call_a_file_of_the_code_is_there() -> None:
    for page in PAGES:
        if page.name != "LOG.md":  # tells of files that are no longer there
            for name in re.findall(r"`((?:pipeline|jobs|tests|benchmarks|configs)/[\w/.-]+)`", page.read_text("utf-8")):
                assert Path(name).exists(), f"{page}: {name}"
