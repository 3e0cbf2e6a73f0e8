"""The cleaning of libcore/transform_text.py character by character."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libcore.transform_text import CleanPlan

_CLEAN = {*range(0x09, 0x0B), 0x0D}
_LEADS, _FOLLOW = (
    "ÂÃÄÅ",
    {*range(0x80, 0xC0), *range(0x2013, 0x203B)}
    | {ord(one) for one in "\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u20ac\u2122"},
)


def is_control(character: str) -> bool:
    """Whether it is one but tab, line feed and carriage return."""
    code = ord(character)
    return (code < 0x20 and code not in _CLEAN) or 0x7F <= code < 0xA0


def is_mojibake(text: str) -> bool:
    """Whether it looks as if UTF-8 had been read as Latin-1 or cp1252, or could not be read."""
    if any(a in _LEADS and ord(b) in _FOLLOW for a, b in pairwise(text)):
        return True
    return any(
        sign in text
        for sign in ("\u00e2\u20ac", "\u00e2\u201a", "\u00e2\x80", "\u00e2\x82", "\u00ef\u00bf\u00bd", "\ufffd")
    )


def clean(text: str | None, plan: CleanPlan, blanks: str) -> tuple[str | None, list[int]]:
    """(the clean text, codes of what is wrong with it)."""
    if text is None:
        return None, []
    codes = []
    for old, new in plan.replace.items():
        text = text.replace(old, new)
    if plan.control == "refuse" and any(map(is_control, text)):
        codes.append(1)
    if plan.control in ("remove", "space"):
        put = " " if plan.control == "space" else ""
        text = "".join(put if is_control(character) else character for character in text)
    if plan.trim in ("left", "both"):
        text = text.lstrip(blanks)
    if plan.trim in ("right", "both"):
        text = text.rstrip(blanks)
    if any(character in plan.deny for character in text):
        codes.append(2)
    if plan.code_page is not None and not _fits(text, plan.code_page):
        codes.append(3)
    if plan.report_mojibake and is_mojibake(text):
        codes.append(4)
    return text, codes


def _fits(text: str, code_page: str) -> bool:
    try:
        text.encode(code_page)
    except UnicodeEncodeError:
        return False
    return True
