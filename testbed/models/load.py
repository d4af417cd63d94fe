"""From a name or a path to a typed model, or to an error with file, line, key and what is valid.

A name is looked up in the folders the user gave, in those of installed packages, and in the shipped
data, in this order; what has a slash or ends in .yaml is a path. Parsing never looks at the machine.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from testbed.errors import UserError, nearest
from testbed.models.base import Model
from testbed.models.data import Kind, places
from testbed.models.device import DeviceModel, Habit
from testbed.models.document import Document, Loc, read_document
from testbed.models.problems import explain
from testbed.models.registry import habit_types
from testbed.models.scenario import Scenario
from testbed.models.sources import field_models, missing_sources, wrong_sources
from testbed.models.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

M = TypeVar("M", bound=Model)

_FOLDERS: dict[str, Kind] = {"device_models": "device", "topologies": "topology", "scenarios": "scenario"}
_MOST_LINES = 20
"""More problems than these are counted, not shown."""


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A model and the file it came from."""

    model: M
    document: Document


def load_device(
    name_or_path: str | Path,
    folders: Sequence[str | Path] = (),
    habits: Mapping[str, type[Habit]] | None = None,
) -> DeviceModel:
    """Return a device model; `habits` replaces the registered habit types. Raises UserError."""
    return read_device(name_or_path, folders, habits).model


def load_topology(name_or_path: str | Path, folders: Sequence[str | Path] = ()) -> Topology:
    """Return a topology. Raises UserError."""
    return read_topology(name_or_path, folders).model


def load_scenario(name_or_path: str | Path, folders: Sequence[str | Path] = ()) -> Scenario:
    """Return a scenario. Raises UserError."""
    return read_scenario(name_or_path, folders).model


def read_topology(name_or_path: str | Path, folders: Sequence[str | Path] = ()) -> Loaded[Topology]:
    """Return a topology with its document; places and services may be another one's. Raises UserError."""
    document = read_document(find("topology", name_or_path, folders))
    lender = document.data.get("internet")
    if not isinstance(lender, str):
        return _validated(Topology, document, {})
    for own in ("places", "services"):
        if own in document.data:
            raise UserError(
                document.problem((own,), f"stands beside internet: {lender}; leave one of them out")
            )
    lent = read_document(find("topology", lender, folders))
    if "internet" in lent.data:
        message = f"'{lender}' has no Internet of its own either; name the topology that it takes it from"
        raise UserError(document.problem(("internet",), message))
    internet = _validated(Topology, lent, {}).model
    return _validated(Topology, document, {"places": internet.places, "services": internet.services})


def read_scenario(name_or_path: str | Path, folders: Sequence[str | Path] = ()) -> Loaded[Scenario]:
    """Return a scenario with its document. Raises UserError."""
    return _read(Scenario, "scenario", name_or_path, folders)


def read_device(
    name_or_path: str | Path,
    folders: Sequence[str | Path] = (),
    habits: Mapping[str, type[Habit]] | None = None,
) -> Loaded[DeviceModel]:
    """Return a device model with its document. Raises UserError, also where a number has no source."""
    document = read_document(find("device", name_or_path, folders))
    lines: list[str] = []
    blocks: dict[int, Habit] = {}
    data = dict(document.data)
    listed = data.get("habits")
    if isinstance(listed, list):
        known = habit_types() if habits is None else habits
        for index, raw in enumerate(listed):
            try:
                blocks[index] = _habit(raw, index, document, known)
            except _Wrong as wrong:
                lines += wrong.lines
        data["habits"] = list(blocks.values())
    try:
        model = DeviceModel.model_validate(data)
    except ValidationError as error:
        lines += explain(error, DeviceModel, document)
    lines += _source_problems(document, DeviceModel, document.data, ())
    for index, block in blocks.items():
        raw = document.data["habits"][index]
        lines += _source_problems(document, type(block), raw, ("habits", index))
    _raise(lines)
    _check_name(document, model.name)
    return Loaded(model, document)


def find(kind: Kind, name_or_path: str | Path, folders: Sequence[str | Path] = ()) -> Path:
    """Return the file of a device model, topology or scenario. Raises UserError when there is none."""
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or os.sep in text or text.endswith((".yaml", ".yml")):
        if not Path(text).is_file():
            raise UserError(f"{text}: no such file")
        return Path(text)
    listed = catalogue(kind, folders)
    if text not in listed:
        raise UserError(f"unknown {kind} '{text}'; {nearest(text, listed)}")
    return listed[text]


def catalogue(kind: Kind, folders: Sequence[str | Path] = ()) -> dict[str, Path]:
    """Return every name of a kind that can be loaded, in order, with its file."""
    given = tuple(Path(folder) for folder in folders)
    for folder in given:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder of models")
    found: dict[str, Path] = {}
    for place in places(kind, given):
        for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            if path.stem not in found and _is_kind(path, kind):
                found[path.stem] = path
    return dict(sorted(found.items()))


def list_devices(folders: Sequence[str | Path] = ()) -> dict[str, Path]:
    """Return the names of the device models and their files."""
    return catalogue("device", folders)


def list_topologies(folders: Sequence[str | Path] = ()) -> dict[str, Path]:
    """Return the names of the topologies and their files."""
    return catalogue("topology", folders)


def list_scenarios(folders: Sequence[str | Path] = ()) -> dict[str, Path]:
    """Return the names of the scenarios and their files."""
    return catalogue("scenario", folders)


def _is_kind(path: Path, kind: Kind) -> bool:
    """Tell what a file is: by its folder, or, where kinds are mixed, by the keys only one has."""
    if path.parent.name in _FOLDERS:
        return _FOLDERS[path.parent.name] == kind
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if re.search(r"^(duration|events|states):", text, re.MULTILINE):
        return kind == "scenario"
    if re.search(r"^(devices|services|router|wan):", text, re.MULTILINE):
        return kind == "topology"
    return kind == "device"


class _Wrong(Exception):
    """A part of a document is wrong; carries the lines of the message."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines)
        self.lines = lines


def _read(kind: type[M], word: Kind, name_or_path: str | Path, folders: Sequence[str | Path]) -> Loaded[M]:
    return _validated(kind, read_document(find(word, name_or_path, folders)), {})


def _validated(kind: type[M], document: Document, given: Mapping[str, Any]) -> Loaded[M]:
    """Return a document's model; `given` are parts that stand in another file."""
    try:
        model = kind.model_validate({**document.data, **given})
    except ValidationError as error:
        _raise(explain(error, kind, document))
        raise AssertionError("a ValidationError names at least one error") from error
    _raise(_source_problems(document, kind, document.data, (), complete=False))
    _check_name(document, getattr(model, "name", ""))
    return Loaded(model, document)


def _habit(raw: Any, index: int, document: Document, known: Mapping[str, type[Habit]]) -> Habit:
    """Validate one entry of a device's `habits` by the type of its behaviour."""
    at = ("habits", index)
    if not isinstance(raw, dict) or not isinstance(raw.get("behaviour"), str):
        raise _Wrong([document.problem(at, "needs the key behaviour")])
    word = raw["behaviour"]
    if word not in known:
        raise _Wrong(
            [document.problem((*at, "behaviour"), f"unknown behaviour '{word}'; {nearest(word, known)}")]
        )
    try:
        return known[word].model_validate(raw)
    except ValidationError as error:
        raise _Wrong(explain(error, known[word], document, at)) from None


def _source_problems(
    document: Document, kind: type[Model], block: Any, at: Loc, *, complete: bool = True
) -> list[str]:
    """Return what is wrong with the sources of a block and of the blocks in it.

    With `complete` every number needs one. A device's habits are left to their own types.
    """
    if not isinstance(block, dict):
        return []
    lines = list(wrong_sources(document, block, kind, at))
    if complete:
        lines += missing_sources(document, block, kind, at)
    for name, value in block.items():
        inner = next((part for part in field_models(kind, name) if "sources" in part.model_fields), None)
        if inner is None or name == "habits":
            continue
        items = enumerate(value) if isinstance(value, list) else ()
        for where, item in (((*at, name, index), item) for index, item in items):
            lines += _source_problems(document, inner, item, where, complete=complete)
        lines += _source_problems(document, inner, value, (*at, name), complete=complete)
    return lines


def _check_name(document: Document, name: str) -> None:
    if document.path.stem != name:
        message = f"is '{name}', but the file is called {document.path.name}; they must be the same"
        raise UserError(document.problem(("name",), message))


def _raise(lines: Iterable[str]) -> None:
    """Raise one UserError with all problems, in order of their lines; do nothing without any."""
    ordered = sorted(dict.fromkeys(lines), key=_line_number)
    if len(ordered) > _MOST_LINES:
        ordered = [*ordered[:_MOST_LINES], f"… and {len(ordered) - _MOST_LINES} more"]
    if ordered:
        raise UserError("\n".join(ordered))


def _line_number(line: str) -> int:
    match = re.search(r":(\d+): ", line)
    return int(match[1]) if match else 0
