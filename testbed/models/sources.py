"""The rule that every number of a device model says where it comes from.

A block is a mapping that may have the key ``sources``. Each of its parameters that is a number, a
quantity with a unit, a time of day, a list, or a nested mapping with any of these, needs an entry there;
one entry may cover several ("up, down: …"), and ``retry.first`` covers a part of a nested mapping.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from testbed.errors import nearest
from testbed.models.base import CONFIDENCES, Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.models.document import Document, Loc

_UNIT = r"(?:us|ms|s|m|min|h|d|w|[kMG]?B|[KMG]iB|[kMG]?bit/s|%)"
_QUANTITY = re.compile(rf"(?:\d+(?:\.\d+)?\s*{_UNIT}\s*)+|\d{{1,2}}:\d{{2}}(?::\d{{2}})?")
_NOT_MEASURED = frozenset({"habits", "limits", "requires", "paper", "sources"})
"""Lists of blocks, of words and of facts; `paper` is the paper's table, its source is its name."""


def missing_sources(
    document: Document, block: dict[str, Any], kind: type[Model], at: Loc = ()
) -> Iterator[str]:
    """Yield a line for each parameter of a block without a source."""
    covered = {name for key in _entries(block) for name in _names(key)}
    for name, value in block.items():
        if name in _NOT_MEASURED or name in covered or not _measured(value) or _is_block(kind, name):
            continue
        parts = value.items() if isinstance(value, dict) else ()
        if not parts or any(_measured(part) and f"{name}.{key}" not in covered for key, part in parts):
            example = f'{name}: "assumed: why this value"'
            yield document.problem(
                (*at, name), f"has no source; add it to this block's 'sources' ({example})"
            )


def wrong_sources(
    document: Document, block: dict[str, Any], kind: type[Model], at: Loc = ()
) -> Iterator[str]:
    """Yield a line for each entry of `sources` that has no confidence or names no parameter."""
    for key, text in _entries(block).items():
        loc = (*at, "sources", key)
        confidence, colon, words = str(text).partition(":")
        if not colon or confidence not in CONFIDENCES or not words.strip():
            yield document.problem(
                loc, f"must be a confidence ({', '.join(CONFIDENCES)}), a colon, and the source"
            )
        for name in _names(key):
            valid = set(kind.model_fields) | set(block)
            if name.partition(".")[0] not in valid:
                yield document.problem(loc, f"'{name}' is no parameter of this block; {nearest(name, valid)}")


def _entries(block: dict[str, Any]) -> dict[str, Any]:
    sources = block.get("sources")
    return sources if isinstance(sources, dict) else {}


def _names(key: str) -> list[str]:
    return [name.strip() for name in key.split(",")]


def _measured(value: Any) -> bool:
    """Tell whether a value is one that somebody must have measured or assumed."""
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return True
    if isinstance(value, str):
        return _QUANTITY.fullmatch(value.strip()) is not None
    if isinstance(value, dict):
        return any(_measured(inner) for inner in value.values())
    return bool(value)


def _is_block(kind: type[Model], name: str) -> bool:
    """Tell whether a field is a block of its own, with its own `sources`."""
    return any("sources" in part.model_fields for part in field_models(kind, name))


def field_models(kind: type[Model], name: str) -> list[type[Model]]:
    """Return the models that a field's annotation names, whatever they are wrapped in."""
    field = kind.model_fields.get(name)
    return _models_in(field.annotation) if field else []


def _models_in(annotation: Any) -> list[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
