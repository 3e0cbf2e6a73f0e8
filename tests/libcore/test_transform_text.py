"""Texts made clean: as character by character, with what cannot be known reported and left alone."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.errors import ConfigurationError
from libcore.reference import transform_text as reference
from libcore.transform_text import (
    ASCII_BLANKS,
    BLANKS,
    CONTROL_WAYS,
    SIDES,
    UNICODE_BLANKS,
    CleanPlan,
    TextCode,
    clean,
)
from tests.libcore.strategies import EXAMPLES

CHARACTERS = st.sampled_from(
    "abÄü€ÃÂâ¼\x80\x9f\xa0\x00\x1f\x7f\t\n\r \u200b\u2003\u3000\ufeff\ufffd\u2019\u203a\u0160ş😀-'\"\\]^["
)
TEXTS = st.text(CHARACTERS, max_size=8) | st.text(max_size=8)
PLANS = st.builds(
    CleanPlan,
    replace=st.dictionaries(st.text(CHARACTERS, min_size=1, max_size=2), st.text(CHARACTERS, max_size=2), max_size=2),
    control=st.sampled_from(CONTROL_WAYS),
    trim=st.sampled_from(SIDES),
    blanks=st.sampled_from(BLANKS),
    deny=st.text(CHARACTERS, max_size=3),
    code_page=st.sampled_from([None, "ascii", "latin-1", "cp1252", "cp1254", "cp037"]),
    report_mojibake=st.booleans(),
)


@settings(max_examples=EXAMPLES)
@given(st.lists(st.none() | TEXTS, max_size=6), PLANS, st.integers(0, 2))
def test_cleaning_agrees_with_the_reference(texts: list[Any], plan: CleanPlan, skipped: int) -> None:
    """Any texts under any plan, slices too: the same texts, the same rows with the same faults."""
    column = pa.array(["x"] * skipped + texts, pa.utf8()).slice(skipped)
    found = clean(column, plan)
    blanks = ASCII_BLANKS if plan.blanks == "ascii" else UNICODE_BLANKS
    expected = [reference.clean(text, plan, blanks) for text in texts]
    assert found.values.to_pylist() == [text for text, _ in expected]
    assert found.errors == [(row, code) for row, (_, codes) in enumerate(expected) for code in codes]


def test_what_was_read_in_the_wrong_code_page_is_reported_and_kept() -> None:
    """UTF-8 read as Latin-1 or as cp1252 is named; the same words read right are not."""
    right = ["Müller", "Öztürk", "Ångström", "10 €", "it’s", "Škoda", "Âge", "naïve"]
    wrong = [text.encode().decode("cp1252") for text in ("Müller", "Öztürk", "10 €", "it’s")]
    wrong += ["Größe".encode().decode("latin-1"), "Stra\ufffde"]
    found = clean(pa.array(right + wrong), CleanPlan())
    assert found.values.to_pylist() == right + wrong
    assert found.errors == [(row, TextCode.MOJIBAKE) for row in range(len(right), len(right) + len(wrong))]


def test_a_text_that_a_code_page_cannot_hold_is_named() -> None:
    """Turkish letters fit cp1254 and not cp1252; blanks of SAP's fixed fields go."""
    names = pa.array(["  Işık\u00a0", "Müller   ", None, ""])
    assert clean(names, CleanPlan(code_page="cp1252")).errors == [(0, TextCode.CODE_PAGE)]
    found = clean(names, CleanPlan(code_page="cp1254", replace={"ü": "ue"}))
    assert found.values.to_pylist() == ["Işık", "Mueller", None, ""] and not found.errors


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"trim": "middle"}, "trim: expected one of none, left"),
        ({"blanks": "all"}, "blanks: expected one of ascii"),
        ({"control": "burn"}, "control: expected one of keep"),
        ({"replace": {"": "x"}}, "replace: expected texts that are not empty"),
        ({"code_page": "cp99999"}, "code_page: expected one that Python knows"),
        ({"code_page": "utf-16"}, "code_page: expected one byte a character"),
        *(
            ({"code_page": page}, "code_page: expected one byte a character")
            for page in ("utf-8", "cp932", "gbk", "euc_kr", "big5", "iso2022_jp", "utf-7", "idna", "punycode")
        ),
    ],
)
def test_a_plan_that_means_nothing_is_refused(settings_: Any, message: str) -> None:
    """The error names the setting, what was expected and what was found."""
    with pytest.raises(ConfigurationError, match=message):
        CleanPlan(**settings_)
