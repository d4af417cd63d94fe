"""Which habits a device model may list, and the type of each one's parameters."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.models.device import Habit


@cache
def habit_types() -> Mapping[str, type[Habit]]:
    """Return the parameter type of each behaviour: our own, and those of installed packages.

    A package adds one by an entry point in the group `testbed.behaviours` that names a pair
    (parameter type, behaviour function). Raises WorldError when that is not what it finds.
    """
    from testbed.models.device import Habit

    known: dict[str, type[Habit]] = dict(import_module("testbed.models.habits").HABITS)
    for point in entry_points(group="testbed.behaviours"):
        offered = point.load()
        if not (
            isinstance(offered, tuple) and isinstance(offered[0], type) and issubclass(offered[0], Habit)
        ):
            raise WorldError(
                f"entry point '{point.name}' of testbed.behaviours is not (parameter type, behaviour)"
            )
        known[point.name] = offered[0]
    return known
