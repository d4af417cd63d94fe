"""A YAML file as plain data that still knows the line of each key.

Read much as YAML 1.2 says: only ``true`` and ``false`` are booleans, so that ``state: off`` stays a
word; times of day and MAC addresses stay text. Duplicate keys are an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from testbed.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Loc = tuple[int | str, ...]
"""The way to a value: keys and list positions from the top of the file."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast
_MERGE = "tag:yaml.org,2002:merge"
_INT = re.compile(r"[-+]?\d{1,18}")
_FLOAT = re.compile(r"[-+]?(\.\d{1,18}|\d{1,18}(\.\d{0,18})?)([eE][-+]?\d{1,2})?")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_MOST_LEVELS = 50
_MOST_VALUES = 1_000_000
"""A file with more (or an alias bomb that unfolds to more) is refused."""


@dataclass
class Document:
    """The data of one YAML file and the lines it came from."""

    path: Path
    data: Any
    _lines: dict[Loc, int] = field(default_factory=dict, repr=False)

    def line(self, loc: Loc) -> int:
        """Return the line (from 1) of a value, or of the innermost thing around it that exists."""
        while loc and loc not in self._lines:
            loc = loc[:-1]
        return self._lines.get(loc, 1)

    def value(self, loc: Loc) -> Any:
        """Return the value at `loc`, None when there is none."""
        value = self.data
        for step in loc:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def problem(self, loc: Loc, message: str) -> str:
        """Return ``file:line: key.path: message``."""
        where = key_path(loc)
        return f"{self.path}:{self.line(loc)}: {where + ': ' if where else ''}{message}"


def key_path(loc: Loc) -> str:
    """Return ``events[3].device`` for ``("events", 3, "device")``."""
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_document(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises UserError for a file that is missing, unreadable, not YAML, or repeats a key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not a text file (byte {error.start} is not UTF-8)") from None
    try:
        _refuse_depth(path, text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark else ""
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{path}{at}: is not valid YAML: {reason}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}:1: must be keys with values, such as 'name: …'")
    document = Document(path, None)
    document.data = _Builder(document).build(root, ())
    return document


def _refuse_depth(path: Path, text: str) -> None:
    """Refuse absurd nesting before composing, which recurses (in C without a limit of its own)."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_LEVELS:
            mark: Any = event.start_mark  # never None: the event was read from text
            line = mark.line + 1
            raise UserError(
                f"{path}:{line}: is nested over {_MOST_LEVELS} levels deep, more than any model needs"
            )


class _Builder:
    """Turns YAML nodes into data and notes the line of each."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, loc: Loc, line: int | None = None) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise UserError(
                f"{self._document.path}: holds over {_MOST_VALUES:,} values, more than any model needs"
            )
        mark: Any = node.start_mark  # never None: the node was read from text
        self._document._lines[loc] = mark.line + 1 if line is None else line
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise UserError(self._document.problem(loc, "an alias (*) that contains itself"))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, loc)
            return [self.build(item, (*loc, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{self._document.path}:{line}: a key must be a word")
            if key.value in first:
                self._document._lines[(*loc, key.value)] = line
                message = f"key is given twice (first in line {first[key.value]})"
                raise UserError(self._document.problem((*loc, key.value), message))
            first[key.value] = line
            data[key.value] = self.build(value, (*loc, key.value), line)
        for merged in self._merged(node, loc):
            for key, value in merged:
                if key.value not in data:
                    data[key.value] = self.build(value, (*loc, key.value), key.start_mark.line + 1)
        return data

    def _merged(self, node: yaml.MappingNode, loc: Loc) -> Iterator[list[tuple[Any, Any]]]:
        """Yield the entries that ``<<: *alias`` brings in, nearest first."""
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in sources:
                if not isinstance(source, yaml.MappingNode) or id(source) in self._open:
                    raise UserError(
                        self._document.problem(loc, "'<<' needs an alias of other keys with values")
                    )
                yield [pair for pair in source.value if pair[0].tag != _MERGE]
                self._open.add(id(source))
                yield from self._merged(source, loc)
                self._open.discard(id(source))

    @staticmethod
    def _scalar(node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style:  # quoted, or a block of text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INT.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text
