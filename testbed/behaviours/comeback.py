"""How a client comes back to its server.

Two policies: one that has not reached its server since its link came up tries again after short
waits; one that had reached it and lost it backs off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.dial import ROUTINE, Why

if TYPE_CHECKING:
    from testbed.host import Host, NetError
    from testbed.models.habits.parts import Retries


class Comeback:
    """Which of the two retry policies applies, and how far it has got."""

    def __init__(self, host: Host, retries: Retries) -> None:
        self._host = host
        self._retries = retries
        self._validated_link: float | None = None
        self._failures = 0
        self._problem = ""

    @property
    def validated(self) -> bool:
        """Whether the server was reached since the link came up."""
        link = self._host.board.get(facts.LINK_UP)
        return link is not None and self._validated_link == link

    def reached(self) -> None:
        """The server answered."""
        self._validated_link = self._host.board.get(facts.LINK_UP)
        self._failures = 0

    def why(self) -> Why:
        """Return which attempt the next one is, and the rule that causes it."""
        if not self._failures:
            return ROUTINE
        policy = "validated" if self.validated else "unvalidated"
        return Why(self._failures, f"retry {policy} after {self._problem}")

    async def wait(self, problem: NetError) -> None:
        """Wait as the policy wants it; a new link ends the wait and begins anew."""
        self._failures += 1
        self._problem = problem.outcome
        policy = self._retries.validated if self.validated else self._retries.unvalidated
        if await facts.rest(self._host, policy.wait_s(self._failures, self._host.rng.random())):
            self._failures = 0
