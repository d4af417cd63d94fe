"""Clean plans, played once and used for every connection with the same stacks and delays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.simulation.node import NEVER
from testbed.simulation.plans import Played, Stack, Steady
from testbed.simulation.tcp import play

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.simulation.plans import Plan
    from testbed.simulation.tape import Script, Tape

Key = tuple[object, ...]


class Library:
    """Scripts by what they depend on; emptied when the tape drops its scripts."""

    def __init__(self, tape: Tape, server: Stack) -> None:
        self._tape, self._server = tape, server
        self._generation = 0
        self._scripts: dict[Key, Script] = {}

    def find(self, key: Key) -> Script | None:
        """Return a script made before."""
        if self._tape.generation != self._generation:
            self._generation = self._tape.generation
            self._scripts.clear()
        return self._scripts.get(key)

    def make(self, key: Key, plan: Plan, client: Stack, lan: int, wan: int, pace: int) -> Script:
        """Play a plan on a calm path and keep it."""
        played = play(plan, client, self._server, Steady(lan, wan, wan, pace), 0, NEVER)
        script = self._scripts[key] = self._tape.script(played, client, self._server)
        return script

    def kept(self, key: Key, client: Stack, make: Callable[[], Played]) -> Script:
        """Return the script of segments that a kernel sends by itself."""
        key = (*key, client)
        script = self.find(key)
        if script is None:
            script = self._scripts[key] = self._tape.script(make(), client, self._server)
        return script
