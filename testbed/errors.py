"""The errors a user may meet: one root, and whose fault it was.

`UserError` is the user's mistake and ends a command with exit code 2; `WorldError` is the
machine's or the world's failure and ends it with 1. A bug of ours is an `assert` or any other
exception, and shows its traceback.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TestbedError(Exception):
    """Anything the testbed reports without a traceback."""

    __test__ = False  # pytest would take the name for a test class
    exit_code = 1


class UserError(TestbedError):
    """The user asked for something that cannot be; the message says where and what to do."""

    exit_code = 2


class WorldError(TestbedError):
    """The machine or the world failed (disk full, no root, a run that cannot go on)."""

    exit_code = 1


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message that names the nearest valid word, or all of them."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "valid: " + ", ".join(names) if names else "none exist"
