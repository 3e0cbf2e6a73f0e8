"""What is wrong with a pipeline file, in words for the person who wrote it: line, expected, found, a near name."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flows.toml_text import Path, line_of, lines_of
from libcore.errors import ConfigurationError

PLAIN, NAMED = "[plain]", "[named]"
"""Tags of the forms of a `[source.KIND]`, which pydantic puts among a place's names."""

_EXPECTED_TYPES = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "tuple_type": "a list",
    "string_too_short": "a text that is not empty",
    "too_short": "at least one entry",
}


def near(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' where a known name is close, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def configuration_error(
    error: ValidationError, model: type[BaseModel], data: Mapping[str, Any], text: str, file: str
) -> ConfigurationError:
    """All that pydantic found, by line; the first one leads."""
    lines = lines_of(text)
    found = sorted({_described(path, detail, model, data, lines) for path, detail in _relevant(error.errors(), data)})
    (line, message), others = found[0], found[1:]
    more = "".join(f"\n{file}:{number}: {other}" for number, other in others)
    return ConfigurationError(message + more, file=file, line=line)


def _relevant(details: list[Any], data: Mapping[str, Any]) -> list[tuple[Path, Any]]:
    """(place, detail), one a place; of a union only the member that came nearest, as pydantic reports every one."""
    forms: dict[tuple[Path, str | int], list[tuple[Path, Any]]] = {}
    for detail in details:
        path, union, form = _setting_path(detail["loc"], data)
        forms.setdefault((union if form else path, form), []).append((path, detail))
    nearest: dict[Path, list[tuple[Path, Any]]] = {}
    for (place, _), found in sorted(forms.items(), key=lambda item: _distance([detail for _, detail in item[1]])):
        nearest.setdefault(place, [one for one in found if not _is_other_kind(one[1])] or found)
    return list({path: detail for found in nearest.values() for path, detail in reversed(found)}.items())


def _distance(details: list[Any]) -> tuple[bool, bool, int]:
    """How far a member of a union is from what was written; one that lacks its own setting is further than others."""
    meant = [detail for detail in details if not _is_other_kind(detail)]
    return not meant, any(detail["type"] == "missing" for detail in details), len(meant)


def _is_other_kind(detail: Any) -> bool:
    """Whether a table stands where a plain value belongs, or the other way round: the member that was not meant."""
    wants_table = detail["type"] in ("model_type", "model_attributes_type", "dict_type")
    wants_value = detail["type"] == "literal_error" or (detail["type"].endswith("_type") and not wants_table)
    return wants_value if isinstance(detail["input"], Mapping) else wants_table


def _setting_path(location: Path, data: Any) -> tuple[Path, Path, str | int]:
    """(place in the file, place of the union, member tried): pydantic's location also names union members."""
    path: Path = ()
    union: Path = ()
    form: str | int = ""
    for index, part in enumerate(location):
        if part in (PLAIN, NAMED):
            continue
        if isinstance(data, list | Mapping) and _holds(data, part):
            path, data = (*path, part), data[part]  # type: ignore[index]
        elif isinstance(data, Mapping) and index == len(location) - 1 and part != "[key]" and not _is_form(part):
            path = (*path, part)  # the setting that is missing
        elif not form:
            union, form = path, part
    return path, union, form


def _holds(data: list[Any] | Mapping[str | int, Any], part: str | int) -> bool:
    return part in data if isinstance(data, Mapping) else isinstance(part, int) and part < len(data)


def _is_form(part: str | int) -> bool:
    return "[" in str(part) or str(part) != str(part).lower()


def _described(
    path: Path, detail: Any, model: type[BaseModel], data: Mapping[str, Any], lines: Mapping[Path, int]
) -> tuple[int, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind.startswith("union_tag"):
        return line_of(lines, path), _untagged((*path, context["discriminator"].strip("'")), context)
    if kind == "extra_forbidden":
        return line_of(lines, path), _unknown(path, model, data)
    if kind == "missing":
        return line_of(lines, path[:-1]), f"{_dotted(path)}: expected this setting, found nothing"
    if kind == "value_error":
        place, sentence = _rule(str(context["error"]), path, detail["input"])
        return line_of(lines, place), f"{_dotted(place)}: {sentence}"
    expected = _EXPECTED_TYPES.get(kind) or _bounds(kind, context) or detail["msg"]
    hint = ""
    if kind == "literal_error":
        expected = context["expected"].replace("'", '"')
        choices = [choice.strip("'\" ") for choice in context["expected"].replace(" or ", ",").split(",")]
        hint = near(str(detail["input"]), choices)
    # the value may be a secret written where its reference belongs
    shown = "another value" if {"dsn", "properties"} & set(path) else _shown(detail["input"])
    if kind in ("too_short", "string_too_short"):
        return line_of(lines, path), f"{_dotted(path)}: expected {expected}, found none"
    return line_of(lines, path), f"{_dotted(path)}: expected {expected}, found {shown}{hint}"


def _untagged(path: Path, context: Mapping[str, Any]) -> str:
    """Of a section whose form is told by one of its settings: that one is missing, or names no form."""
    if "tag" not in context:
        return f"{_dotted(path)}: expected this setting, found nothing"
    known = [name.strip("'") for name in context["expected_tags"].split(", ")]
    tag = context["tag"]
    return f'{_dotted(path)}: expected one of {", ".join(known)}, found "{tag}"{near(tag, known)}'


def _bounds(kind: str, context: Mapping[str, Any]) -> str | None:
    words = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
    if kind not in words:
        return None
    name, word = words[kind]
    return f"{word} {context[name]}"


def _rule(text: str, path: Path, value: Any) -> tuple[Path, str]:
    """(place, sentence) of a rule: "setting|expected|found" names a place inside, "setting||sentence" one, too."""
    if text.count("|") >= 2:
        setting, expected, found = text.split("|", 2)
        inside = (int(part) if part.isdigit() else part for part in setting.split(".") if part)
        return (*path, *inside), (f"expected {expected}, found {found}" if expected else found)
    return path, text if "found" in text or isinstance(value, Mapping) else f"{text}, found {_shown(value)}"


def _unknown(path: Path, model: type[BaseModel], data: Mapping[str, Any]) -> str:
    name = str(path[-1])
    known = _field_names(model, path[:-1])
    return f"{_dotted(path)}: expected one of {', '.join(known)}, found unknown setting {name!r}{near(name, known)}"


def _field_names(model: type[BaseModel], path: Path) -> list[str]:
    """The settings of the section at that path; of all its forms, where it has several."""
    forms: list[Any] = [model]
    for part in path:
        inside: list[Any] = []
        for form in forms:
            if isinstance(form, type) and issubclass(form, BaseModel):
                inside += [
                    field.annotation for name, field in form.model_fields.items() if str(part) in (field.alias, name)
                ]
            else:
                inside += list(get_args(form)[:1] if get_origin(form) is tuple else get_args(form)[1:])
        forms = [form for annotation in inside for form in _members(annotation)]
    sections = [form for form in forms if isinstance(form, type) and issubclass(form, BaseModel)]
    return list(dict.fromkeys(field.alias or name for form in sections for name, field in form.model_fields.items()))


def _members(annotation: Any) -> list[Any]:
    """The types inside Annotated, Optional and unions."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [form for member in get_args(annotation) for form in _members(member)]
    return [annotation]


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path) or "the file"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, tuple):
        value = list(value)
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
