"""Fetch a known page over plain HTTP to see whether the Internet is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.dial import ROUTINE, Dialler, Why
from testbed.behaviours.schedule import Rounds
from testbed.host import NetError
from testbed.models.habits.parts import Endpoint
from testbed.protocols import http

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import HttpCheck
    from testbed.models.habits.network import Target


async def http_check(host: Host, p: HttpCheck) -> None:
    """Check on schedule, and by the offline policy for as long as the check fails."""
    checks = [_Check(host, p, target) for target in p.targets]
    rounds = Rounds(host, p)
    failures = 0
    while True:
        if failures and p.every_offline is not None:
            await facts.rest(host, p.every_offline.wait_s(failures, host.rng.random()))
        elif not await rounds.next():
            return
        await facts.ready(host, p.requires)
        why = Why(failures, "the check before failed") if failures else ROUTINE
        problem = await _check(checks, why, p.all_targets)
        failures = failures + 1 if problem else 0
        if p.decides:
            if problem:
                facts.went_offline(host, f"{p.name}: {problem}")
            else:
                facts.went_online(host, f"{p.name}: the page is there")


async def _check(checks: list[_Check], why: Why, all_of_them: bool) -> str:
    """Fetch the targets in order; return what is wrong, empty if the Internet is there."""
    outcome = ""
    for check in checks:
        problem = await check.fetch(why)
        if not problem and not all_of_them:
            return ""
        outcome = outcome or problem
    return outcome


class _Check:
    """One target of the check."""

    def __init__(self, host: Host, p: HttpCheck, target: Target) -> None:
        self._host, self._p, self._target = host, p, target
        endpoint = Endpoint(host=target.host, port=80, tls=None, timeout=f"{p.timeout}s")
        self._dialler = Dialler(host, endpoint, p.thread)
        headers = (("User-Agent", target.user_agent), ("Accept", "*/*"), ("Connection", "keep-alive"))
        self._request = http.request("GET", target.host, target.path, headers=headers)

    async def fetch(self, why: Why) -> str:
        """Fetch the page; return what is wrong with it, empty if it is the expected one."""
        p, about = self._p, self._dialler.about._replace(attempt=why.attempt, why=why.why)
        try:
            stream = await self._dialler.open(why)
        except NetError as problem:
            return problem.outcome
        try:
            answer = await stream.request(self._request, http.complete_response, p.timeout, about)
            status = http.parse_response(answer).status
            if p.keep_open:
                await stream.idle(p.keep_open, about)
            await stream.close()
        except NetError as problem:
            stream.abort()
            return problem.outcome
        except ValueError:
            stream.abort()
            return "garbage"
        return "" if status == self._target.status else f"status {status}"
