"""What pydantic finds wrong with a document, in words a person can act on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel

from testbed.errors import nearest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from testbed.models.document import Document, Loc

_QUOTED = re.compile(r"'([^']*)'")
_COMPARISONS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "datetime_type": "a time such as 2018-04-03T00:00:00Z",
    "datetime_parsing": "a time such as 2018-04-03T00:00:00Z",
    "datetime_from_date_parsing": "a time such as 2018-04-03T00:00:00Z",
    "ip_v4_address": "an IPv4 address such as 192.168.1.7",
    "ip_v4_network": "an IPv4 network such as 192.168.1.0/24",
}
_PATTERNS = {
    r"^[a-z][a-z0-9_-]*$": "a name of lower-case letters, digits, '_' and '-', beginning with a letter",
    r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$": "a MAC address in lower case, such as 20:4e:7f:00:00:01",
    r"^([0-9a-f]{2}:){2}[0-9a-f]{2}$": "the first three octets of a MAC in lower case, such as 50:c7:bf",
    r"^[A-Z]{2}$": "two capital letters, such as IE",
    r"^[A-Z]{2}(-[A-Z]{2})?$": "a country, such as IE, or a US state, such as US-VA",
}


def explain(error: ValidationError, kind: type[BaseModel], document: Document, at: Loc = ()) -> list[str]:
    """Return one line for each thing wrong: ``file:line: key.path: what, and the nearest valid one``.

    `at` is where in the document the data validated as `kind` stands.
    """
    found = findings(error, kind, document.value(at))
    return [document.problem((*at, *loc), message) for loc, message in found]


def findings(error: ValidationError, kind: type[BaseModel], data: Any) -> list[tuple[Loc, str]]:
    """Return for each thing wrong with `data` where it stands, and what it is."""
    found = []
    for detail in error.errors(include_url=False):
        steps = _steps(kind, detail["loc"])
        loc = steps[0] if steps else detail["loc"]
        found.append((loc, _words(detail, kind, _value(data, loc))))
    return found


def _value(data: Any, loc: Loc) -> Any:
    for step in loc:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _words(detail: ErrorDetails, kind: type[BaseModel], given: Any) -> str:
    what, context = detail["type"], detail.get("ctx", {})
    if what == "extra_forbidden":
        return f"unknown key; {nearest(str(detail['loc'][-1]), field_names(kind, detail['loc'][:-1]))}"
    if what == "missing":
        return "is missing"
    if what in ("literal_error", "union_tag_invalid"):
        valid = _QUOTED.findall(str(context.get("expected", context.get("expected_tags"))))
        if what == "union_tag_invalid":
            field = str(context["discriminator"]).strip("'")
            return f"unknown {field} '{context['tag']}'; {nearest(str(context['tag']), valid)}"
        return f"cannot be {_shown(given)}; {nearest(str(given), valid)}"
    if what == "union_tag_not_found":
        return f"needs the key {context['discriminator']}"
    if what in _COMPARISONS:
        key, words = _COMPARISONS[what]
        return f"must be {words} {context[key]:g} (got {_shown(given)})"
    if what == "string_pattern_mismatch":
        return (
            f"must be {_PATTERNS.get(context['pattern'], 'like ' + context['pattern'])} (got {_shown(given)})"
        )
    if what == "value_error":
        return str(context["error"])
    if what in _KINDS:
        return f"must be {_KINDS[what]} (got {_shown(given)})"
    if what == "too_short":
        return f"needs at least {context['min_length']} of them"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]} (got {_shown(given)})"


def _shown(value: Any) -> str:
    """Return a value as it may stand in a message: short, in YAML's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "keys with values" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}…'"


def field_names(kind: type[BaseModel], loc: Loc) -> list[str]:
    """Return the keys that are valid at `loc` below a model; none when there is no model there."""
    steps = _steps(kind, loc)
    return list(steps[1].model_fields) if steps and steps[1] else []


def _steps(annotation: Any, loc: Loc) -> tuple[Loc, type[BaseModel] | None] | None:
    """Follow field names and list positions down the type annotations.

    Returns the steps that are in the file (pydantic adds the tags of unions) and the model found at
    the end; None when the annotations do not lead there.
    """
    model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    if not loc:
        return (), model or next(
            (steps[1] for part in get_args(annotation) if (steps := _steps(part, ()))), None
        )
    step, rest = loc[0], loc[1:]
    if model is not None:
        if step not in model.model_fields:
            return ((step,), None) if not rest else None
        return _behind(step, _steps(model.model_fields[str(step)].annotation, rest))
    members = get_args(annotation)
    if get_origin(annotation) is dict:
        return _behind(step, _steps(members[1], rest))
    if isinstance(step, str) and (tagged := _tagged(members, step)):
        return _steps(tagged, rest)
    for member in members:
        if isinstance(step, int) and get_origin(annotation) in (tuple, list):
            found = _behind(step, _steps(member, rest))
        else:
            found = _steps(member, loc)
        if found:
            return found
    return ((step,), None) if isinstance(step, int) and not rest else None


def _behind(
    step: int | str, found: tuple[Loc, type[BaseModel] | None] | None
) -> tuple[Loc, type[BaseModel] | None] | None:
    return ((step, *found[0]), found[1]) if found else None


def _tagged(members: tuple[Any, ...], tag: str) -> type[BaseModel] | None:
    """Return the union member one of whose fields may only be `tag`."""
    for member in members:
        for part in (member, *get_args(member)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                for field in part.model_fields.values():
                    if get_args(field.annotation) == (tag,):
                        return part
    return None
