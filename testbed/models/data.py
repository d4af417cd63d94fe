"""Where the shipped device models, topologies and scenarios are, and where else to look."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal

from testbed.errors import WorldError

Kind = Literal["device", "topology", "scenario"]

_PACKAGE = Path(__file__).resolve().parent.parent

_SUBFOLDERS: dict[Kind, tuple[str, ...]] = {
    "device": ("device_models", "."),
    "topology": ("topologies", "."),
    "scenario": ("topologies/scenarios", "scenarios", "."),
}
"""Where a folder of models keeps each kind; its top level may hold files of every kind."""


def data_root() -> Path:
    """Return the folder with the shipped data: inside an installed package, or the checkout."""
    installed = _PACKAGE / "data"
    return installed if installed.is_dir() else _PACKAGE.parent


@cache
def plugin_folders() -> tuple[Path, ...]:
    """Return the folders that installed packages offer in the entry point group `testbed.models`.

    The entry point names a package (its folder is taken), or a string or path object.
    """
    return tuple(_folder(point) for point in entry_points(group="testbed.models"))


def _folder(point: EntryPoint) -> Path:
    offered = point.load()
    if file := getattr(offered, "__file__", None):
        return Path(file).parent
    if isinstance(offered, str | Path):
        return Path(offered)
    raise WorldError(f"entry point '{point.name}' of testbed.models offers neither a package nor a path")


def places(kind: Kind, folders: tuple[Path, ...]) -> list[Path]:
    """Return the folders to search for a kind, in order: the user's, plug-ins', the shipped ones."""
    own = [folder / sub for folder in (*folders, *plugin_folders()) for sub in _SUBFOLDERS[kind]]
    return [*own, data_root() / _SUBFOLDERS[kind][0]]
