"""The pages of the worked flows show the very files that the tests run."""

from __future__ import annotations

import re

import pytest

from tests.flows.erp_flows import PIPELINES
from tests.habits import code

FOLDER = code.ROOT / "docs" / "flows"
PAGES = sorted(page.stem for page in FOLDER.glob("*.md") if page.stem != "README")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_its_pipeline_file(name: str) -> None:
    """The block of that file's name is flows/pipelines/NAME.toml, to the letter; so are those of other files."""
    text = (FOLDER / f"{name}.md").read_text("utf-8")
    shown = dict(re.findall(r"<!-- file: ([\w.]+) -->\n```\w+\n(.*?)```", text, re.S))
    assert f"{name}.toml" in shown
    assert shown == {file: (PIPELINES / file).read_text("utf-8") for file in shown}


def test_the_index_names_every_page() -> None:
    """Five flows, each with a page, a file and a line in the index."""
    assert PAGES == ["invoices", "order_lines", "revenue", "stock", "three_way_match"]
    index = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"({name}.md)" in index for name in PAGES)
