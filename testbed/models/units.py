"""Quantities as people write them in YAML: ``6h``, ``90s``, ``1.5MB``, ``10Mbit/s``, ``20%``."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_BYTES = {"B": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_BITS_PER_S = {"bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9}
_PARTS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z/]+)")


def _parse(text: Any, units: dict[str, float] | dict[str, int], example: str) -> float:
    """Parse a sum of number-and-unit parts, such as ``1h30m``."""
    if not isinstance(text, str):
        raise ValueError(f"needs a unit, such as {example} (got {text!r})")
    if text.lstrip().startswith("-"):
        raise ValueError(f"must not be negative (got {text!r})")
    total, at = 0.0, 0
    for match in _PARTS.finditer(text):
        if match.start() != at or match[2] not in units:
            break
        total += float(match[1]) * units[match[2]]
        at = match.end()
    if at == 0 or text[at:].strip():
        raise ValueError(f"cannot read {text!r}; write it like {example} (units: {', '.join(units)})")
    return total


def parse_duration(text: Any) -> float:
    """Return seconds for ``250ms``, ``90s``, ``10m``, ``6h``, ``1d12h``, ``1w``; 0 needs no unit."""
    return 0.0 if text == 0 else _parse(text, _SECONDS, "90s or 6h")


def spoken(seconds: float) -> str:
    """Return a duration as one writes it in YAML: ``1h30m``, ``250ms``, ``7d``, ``-90m``."""
    if seconds < 0:
        return "-" + spoken(-seconds)
    if 0 < seconds < 1 or (seconds < 60 and seconds != round(seconds)):
        return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_moment(text: Any) -> float:
    """Return seconds for a duration, or for one with a minus sign: ``-90m``."""
    if isinstance(text, str) and text.lstrip().startswith("-"):
        return -parse_duration(text.lstrip()[1:])
    return parse_duration(text)


def parse_size(text: Any) -> int:
    """Return bytes for ``250B``, ``1.5kB``, ``4MB``, ``1MiB``."""
    return 0 if text == 0 else round(_parse(text, _BYTES, "900B or 1.5MB"))


def parse_rate(text: Any) -> float:
    """Return bits per second for ``512kbit/s``, ``10Mbit/s``."""
    return _parse(text, _BITS_PER_S, "10Mbit/s")


def parse_share(text: Any) -> float:
    """Return a fraction of one for ``20%`` (or a plain number from 0 to 1)."""
    if isinstance(text, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)):
        return float(match[1]) / 100
    if isinstance(text, bool) or not isinstance(text, int | float):
        raise ValueError(f"cannot read {text!r}; write it like 20% or 0.2")
    return float(text)


def _schema(pattern: str, example: str, zero: bool = True) -> Any:
    """Describe a quantity to editors: text with a unit, or (where `zero`) a plain 0."""
    plain: dict[str, Any] = {"type": ["string", "integer"], "maximum": 0} if zero else {"type": "string"}
    return Field(json_schema_extra={**plain, "pattern": pattern, "examples": [example]})


_DURATION = r"^\s*(\d+(\.\d+)?\s*(us|ms|s|m|min|h|d|w)\s*)+$"
_SIZE = r"^\s*\d+(\.\d+)?\s*(B|kB|MB|GB|KiB|MiB|GiB)$"
_RATE = r"^\s*\d+(\.\d+)?\s*(k|M|G)?bit/s$"

Duration = Annotated[float, BeforeValidator(parse_duration), _schema(_DURATION, "6h")]
"""Seconds; in YAML a string with units."""
Moment = Annotated[float, BeforeValidator(parse_moment), _schema(_DURATION.replace("^", "^-?", 1), "6h")]
"""Seconds from the start of the capture; ``-1h`` is an hour before it, in the warm-up."""
Size = Annotated[int, BeforeValidator(parse_size), _schema(_SIZE, "1.5MB")]
"""Bytes; in YAML a string with units."""
Rate = Annotated[float, BeforeValidator(parse_rate), _schema(_RATE, "10Mbit/s", zero=False)]
"""Bits per second; in YAML a string with units."""
Share = Annotated[
    float,
    BeforeValidator(parse_share),
    Field(
        ge=0, le=1, json_schema_extra={"type": ["string", "number"], "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}
    ),
]
"""A fraction of one; in YAML ``20%`` or 0.2."""


def as_written(value: Any, annotation: Any) -> str:
    """Return a validated value as one would write it in YAML, given its field's annotation or metadata."""
    parsers = _parsers(annotation)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if parse_duration in parsers or parse_moment in parsers:
            return spoken(value) if value else "0s"
        if parse_size in parsers:
            return _in_units(value, {unit: _BYTES[unit] for unit in ("GB", "MB", "kB", "B")})
        if parse_rate in parsers:
            return _in_units(value, dict(reversed(_BITS_PER_S.items())))
        if parse_share in parsers:
            return f"{value * 100:g}%"
        return f"{value:g}" if isinstance(value, float) else str(value)
    return str(value)


def _in_units(value: float, units: dict[str, int]) -> str:
    """Write a value in the first unit (from the largest) in which at most three decimals say it exactly."""
    unit = next(
        (unit for unit, size in units.items() if value >= size and value * 1000 % size == 0), [*units][-1]
    )
    return f"{value / units[unit]:.15g}{unit}"


def _parsers(annotation: Any) -> set[Any]:
    """Return the parsing functions of this module that an annotation leads to."""
    if isinstance(annotation, BeforeValidator):
        return {annotation.func}
    parts = (*getattr(annotation, "metadata", ()), getattr(annotation, "annotation", None))
    inner = (*parts, *get_args(annotation))
    return set().union(*(_parsers(part) for part in inner if part is not None))


_QUANTITIES: dict[Any, str] = {
    parse_duration: "duration",
    parse_moment: "duration",
    parse_size: "size",
    parse_rate: "rate",
    parse_share: "share",
}


def quantity(annotation: Any) -> str | None:
    """Return which quantity an annotation (or field) is: ``duration``, ``size``, …; None when it is none."""
    return next((word for parser, word in _QUANTITIES.items() if parser in _parsers(annotation)), None)
