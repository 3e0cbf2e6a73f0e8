"""Oracle's SQL to SQLite's, token by token; what Oracle refuses and SQLite would take is refused as Oracle does it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

from tests.doubles.oracle.errors import failure
from tests.doubles.oracle.store import FOREVER
from tests.doubles.oracle.views import ALIASES, VIEWS

_TOKEN = re.compile(
    r"""\s+ | /\*.*?\*/ | --[^\n]* | '(?:[^']|'')*' | "[^"]*" | :\w+ | \d+(?:\.\d+)? | [A-Za-z_][\w$\#]* |
    <> | <= | >= | != | \|\| | .""",
    re.VERBOSE | re.DOTALL,
)
_RESERVED = (
    "ACCESS ADD ALL AND AS ASC BETWEEN BY CHECK COLUMN COMMENT CURRENT DATE DEFAULT DELETE DESC "
    "DISTINCT ELSE FILE FOR FROM GRANT GROUP HAVING IN INDEX INSERT INTO IS LEVEL LIKE LOCK MODE NOT "
    "NULL NUMBER OF ON OPTION OR ORDER RAW ROW ROWID ROWNUM ROWS SELECT SESSION SET SHARE SIZE START "
    "TABLE THEN TO TRIGGER UID UNION UNIQUE UPDATE USER VALUES VIEW WHERE WITH"
)
_LISTS_END = frozenset({"WHERE", "GROUP", "ORDER", "UNION", "FETCH", "LEFT", "JOIN", "INNER", "ON", "START", "HAVING"})
_EXPRESSIONS_MAX = 1000


@dataclass
class Translated:
    """A statement for SQLite.

    Args:
        text: the statement. tables: the user tables that it reads or writes. flashback: the SCN binds it asks for.
        views: Oracle's views that it reads.
    """

    text: str
    tables: list[str] = field(default_factory=list)
    flashback: list[str] = field(default_factory=list)
    views: set[str] = field(default_factory=set)


def tokens(text: str) -> list[str]:
    """A statement's tokens, without blanks and comments."""
    found = _TOKEN.findall(text)
    return [one for one in found if not one.isspace() and not one.startswith(("/*", "--"))]


@lru_cache(maxsize=500)
def translate(text: str, known: frozenset[str]) -> Translated:
    """A query or DELETE for SQLite.

    Args:
        known: user tables, "OWNER.NAME".
    Raises: DatabaseError for what Oracle does not take.
    """
    given = tokens(text)
    _refuse(given)
    made = Translated("")
    out: list[str] = []
    place = 0
    while place < len(given):
        step = _table(given, place, known, made, out) or _special(given, place, out)
        if not step:
            out.append(_plain(given[place], made))
            step = 1
        place += step
    made.text = " ".join(out)
    return made


def _refuse(given: list[str]) -> None:
    upper = [token.upper() for token in given]
    if given[-1] == ";" or "LIMIT" in upper or "TRUE" in upper or "ISNULL" in upper:
        raise failure(933)
    if upper[0] in ("SELECT", "WITH") and "FROM" not in upper:
        raise failure(923)
    for token in upper:
        if token.startswith(":") and token[1:] in _RESERVED.split():
            raise failure(1745, token)
    for place, token in enumerate(upper[:-1]):
        rows = token in ("<", ">", "<=", ">=") and upper[place - 1] == ")" and upper[place + 1] == "("
        if rows and _commas(upper, _opening(upper, place - 1), place - 1):
            raise failure(1796)
        listed = token == "IN" and upper[place + 1] == "(" and upper[place + 2] != "SELECT"
        if listed and _commas(upper, place + 1, _closing(upper, place + 1)) >= _EXPRESSIONS_MAX:
            raise failure(1795)
        if token == "AS" and upper[place - 1] != ")" and upper[place + 1] != "OF" and _in_tables(upper, place):
            raise failure(933, "AS before the alias of a table")


def _commas(given: list[str], first: int, last: int) -> int:
    """Commas between two parentheses, outside of inner ones."""
    depth = count = 0
    for token in given[first + 1 : last]:
        depth += (token == "(") - (token == ")")
        count += token == "," and depth == 0
    return count


def _closing(given: list[str], opening: int) -> int:
    depth = 0
    for place in range(opening, len(given)):
        depth += (given[place] == "(") - (given[place] == ")")
        if depth == 0:
            return place
    raise failure(933, "a parenthesis is not closed")


def _opening(given: list[str], closing: int) -> int:
    depth = 0
    for place in range(closing, -1, -1):
        depth += (given[place] == ")") - (given[place] == "(")
        if depth == 0:
            return place
    raise failure(933, "a parenthesis was not opened")


def _in_tables(upper: list[str], place: int) -> bool:
    """Whether a token stands between FROM and the next clause of its query."""
    depth = 0
    for token in reversed(upper[:place]):
        depth += (token == ")") - (token == "(")
        if depth < 0:
            return False
        if depth == 0 and token in _LISTS_END | {"SELECT"}:
            return token == "JOIN"
        if depth == 0 and token == "FROM":
            return True
    return False


def _table(given: list[str], place: int, known: Collection[str], made: Translated, out: list[str]) -> int:
    """A table's name "O"."T", perhaps AS OF SCN; how many tokens it took, 0: there is none here."""
    if place + 2 >= len(given) or given[place + 1] != "." or not re.match(r'["A-Za-z_]', given[place]):
        return 0
    owner, name = _bare(given[place]), _bare(given[place + 2])
    if owner == "SYS":
        out.append(_plain(given[place + 2], made))
        return 3
    if f"{owner}.{name}" not in known:
        if out and out[-1].upper() in ("FROM", "JOIN") and not out[-1].startswith('"'):
            raise failure(942, f"{owner}.{name}")
        return 0
    table = f"{owner}.{name}"
    made.tables.append(table)
    rest = [token.upper() for token in given[place + 3 : place + 6]]
    if rest == ["AS", "OF", "SCN"]:
        scn = given[place + 6]
        made.flashback.append(scn)
        seen, count = f'"$from" <= {scn} AND "$to" > {scn}', 7
    else:
        seen, count = f'"$to" = {FOREVER}', 3
    if out[:2] == ["DELETE", "FROM"]:
        out.append(f'"{table}"')
    else:
        out.append(f'(SELECT "$row" AS ROWID, * FROM "{table}" WHERE {seen})')
    return count


def _special(given: list[str], place: int, out: list[str]) -> int:
    """Forms that SQLite writes otherwise; how many tokens they took."""
    upper = [token.upper() for token in given[place : place + 6]]
    if upper[:1] == ["FETCH"] and upper[1:2] in (["FIRST"], ["NEXT"]):
        out += ["LIMIT", given[place + 2]]
        return 5
    if upper[:2] == ["IN", "("] and out[-1] == ")" and upper[2:3] == ["("]:
        out += ["IN", "(", "VALUES"]
        return 2
    if upper[:2] == ["XMLSERIALIZE", "("]:
        end = _closing(given, place + 1)
        out += [" ".join(given[place + 3 : end - 2])]
        return end - place + 1
    if upper[:2] == ["JSON_SERIALIZE", "("]:
        end = _closing(given, place + 1)
        out += [" ".join(given[place + 2 : end - 2])]
        return end - place + 1
    if upper[:3] == ["AS", "VARCHAR2", "("]:
        out += ["AS", "TEXT"]
        return 5
    return 0


def _bare(token: str) -> str:
    return token[1:-1] if token.startswith('"') else token.upper()


def _plain(token: str, made: Translated) -> str:
    if token == "''":
        return "NULL"
    if token[0] in "'\":" or not re.match(r"[A-Za-z_]", token):
        return token
    upper = token.upper()
    upper = ALIASES.get(upper, upper)
    if upper in VIEWS or upper == "V$LOGMNR_CONTENTS":
        made.views.add(upper)
        return f'"{upper}"'
    if upper == "MINUS":
        return "EXCEPT"
    if upper == "SYSTIMESTAMP":
        return "'2026-01-02 03:04:05.000000000 +00:00'"
    if upper == "SYSDATE":
        return "'2026-01-02 03:04:05'"
    return f'"{upper}"' if "#" in upper or "$" in upper else token


@lru_cache(maxsize=500)
def outputs(text: str) -> list[tuple[str, str]]:
    """The columns of a query: (name, expression), as the select list has them."""
    given = tokens(text)
    depth, start, items = 0, 1, []
    start += given[1].upper() in ("DISTINCT", "ALL")
    for place in range(start, len(given)):
        token = given[place]
        depth += (token == "(") - (token == ")")
        if depth == 0 and (token == "," or token.upper() == "FROM"):
            items.append(given[start:place])
            start = place + 1
        if depth == 0 and token.upper() == "FROM":
            break
    return [_output(item) for item in items]


def _output(item: list[str]) -> tuple[str, str]:
    if len(item) > 2 and item[-2].upper() == "AS":
        return _bare(item[-1]), _expression(item[:-2])
    if len(item) > 1 and item[-2] not in (".", "(") and re.match(r'["A-Za-z_]', item[-1]):
        return _bare(item[-1]), _expression(item[:-1])
    simple = len(item) == 1 or (len(item) == 3 and item[1] == ".")
    return (_bare(item[-1]) if simple else "".join(item).upper()), _expression(item)


def _expression(item: list[str]) -> str:
    """A bare column's name; of anything else its first word and a parenthesis."""
    if len(item) == 1 or (len(item) == 3 and item[1] == "."):
        return _bare(item[-1])
    return f"{item[0].upper()}("
