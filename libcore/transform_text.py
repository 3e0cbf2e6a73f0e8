"""Texts made clean: blanks at the ends, control characters, replacements, and what a code page cannot hold.

What cannot be known is reported, not guessed: a text that looks as if it had been read in the wrong code page stays as
it is, and its row is named. Columns only, by pyarrow's kernels; the reference is in reference/transform_text.py.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from libcore.errors import ConfigurationError

ASCII_BLANKS = " \t\n\v\f\r"
UNICODE_BLANKS = (
    ASCII_BLANKS + "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200C))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""Unicode's white space, the zero width space, and the byte order mark."""
CONTROLS = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
"""Control characters but tab, line feed and carriage return."""
_FOLLOWING = "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"
MOJIBAKE = f"[\u00c2\u00c3\u00c4\u00c5][{_FOLLOWING}]|\u00e2[\u20ac\u201a\u0080\u0082]|\u00ef\u00bf\u00bd|\ufffd"
"""UTF-8 read as Latin-1 or cp1252 ("Ã¼" for "ü"), and the sign that a reader puts where it could not read."""
SIDES = ("none", "left", "right", "both")
BLANKS = ("ascii", "unicode")
CONTROL_WAYS = ("keep", "remove", "space", "refuse")


class TextCode(enum.IntEnum):
    """What is wrong with a text."""

    CONTROL = 1  # a control character, where they are refused
    DENIED = 2  # a character of the deny list
    CODE_PAGE = 3  # a character that the code page does not have
    MOJIBAKE = 4  # read in the wrong code page, by the looks of it


SENTENCES = {
    TextCode.CONTROL: "expected a text without control characters, found one",
    TextCode.DENIED: "expected a text without the denied characters, found one",
    TextCode.CODE_PAGE: "expected characters that the code page has, found another",
    TextCode.MOJIBAKE: "expected a text that was read in its code page, found one that looks as if it was not",
}


@dataclass(frozen=True)
class CleanPlan:
    """What is to be done with texts, in this order: replace, control characters, trim, then the checks.

    Args:
        replace: text -> text, one after the other in this order.
        control: what becomes of control characters (not tab and line ends): one of CONTROL_WAYS.
        trim, blanks: which side, one of SIDES, and of what, one of BLANKS.
        deny: characters that no text may have.
        code_page: a code page of one byte a character that texts must fit, such as "cp1252"; None: any character.
        report_mojibake: name rows that look as if read in the wrong code page.
    Raises: ConfigurationError for a word that is none of those.
    """

    replace: Mapping[str, str] = field(default_factory=dict)
    control: str = "keep"
    trim: str = "both"
    blanks: str = "unicode"
    deny: str = ""
    code_page: str | None = None
    report_mojibake: bool = True

    def __post_init__(self) -> None:
        for name, known in (("trim", SIDES), ("blanks", BLANKS), ("control", CONTROL_WAYS)):
            if (found := getattr(self, name)) not in known:
                raise ConfigurationError(f"{name}: expected one of {', '.join(known)}, found {found!r}")
        if "" in self.replace:
            raise ConfigurationError("replace: expected texts that are not empty, found an empty one")
        if self.code_page is not None:
            _ = self.outside

    @cached_property
    def outside(self) -> str:
        """A regular expression for a character that the code page does not have."""
        assert self.code_page is not None
        page = self.code_page
        try:
            held = {bytes([byte]).decode(page, "ignore") for byte in range(256)} - {""}
            # of a page with characters of several bytes, only those of one were seen above
            more = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x20000)))).translate(dict.fromkeys(map(ord, held)))
            whole = held and all(len(one) == 1 for one in held) and not more.encode(page, "ignore")
        except LookupError as error:
            raise ConfigurationError(f"code_page: expected one that Python knows, found {page!r}") from error
        except UnicodeError:  # a coding of whole texts, which takes no single bytes
            whole = False
        if not whole:
            raise ConfigurationError(f"code_page: expected one byte a character, found {page!r}")
        return "[^" + "".join(f"\\x{{{ord(one):X}}}" for one in sorted(held)) + "]"


@dataclass(frozen=True)
class Cleaned:
    """The texts, and (row, what is wrong with it) by row, then code; such texts are cleaned as well, and kept."""

    values: pa.StringArray
    errors: list[tuple[int, TextCode]]


def clean(values: pa.StringArray, plan: CleanPlan) -> Cleaned:
    """Clean a column of texts. NULL stays NULL, and an empty text empty."""
    for old, new in plan.replace.items():
        values = pc.replace_substring(values, old, new)
    found: list[tuple[int, TextCode]] = []
    if plan.control == "refuse":
        found += _matching(values, CONTROLS, TextCode.CONTROL)
    elif plan.control != "keep":
        values = pc.replace_substring_regex(values, CONTROLS, " " if plan.control == "space" else "")
    blanks = ASCII_BLANKS if plan.blanks == "ascii" else UNICODE_BLANKS
    trims = {"left": pc.utf8_ltrim, "right": pc.utf8_rtrim, "both": pc.utf8_trim}
    if plan.trim in trims:
        values = trims[plan.trim](values, blanks)
    if plan.deny:
        found += _matching(values, "[" + "".join(f"\\x{{{ord(one):X}}}" for one in plan.deny) + "]", TextCode.DENIED)
    if plan.code_page is not None:
        found += _matching(values, plan.outside, TextCode.CODE_PAGE)
    if plan.report_mojibake:
        found += _matching(values, MOJIBAKE, TextCode.MOJIBAKE)
    return Cleaned(values, sorted(found))


def _matching(values: pa.StringArray, pattern: str, code: TextCode) -> list[tuple[int, TextCode]]:
    rows = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(values, pattern), pa.scalar(False)))
    return [(row, code) for row in rows.to_pylist()]
