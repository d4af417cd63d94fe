"""The device's DNS stub resolver: one for all its habits, with its own timeouts and habits."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

from testbed.behaviours.facts import LINK_UP
from testbed.host import About, LinkDown, NetError, NoReply
from testbed.protocols import dns

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.device import Resolver

_STATE = "resolver"
_PORT = 53
_UCLIBC_FIRST_IDENT = 2


class NotResolved(NetError):
    """A name has no address for the device; `outcome` says in which way."""

    def __init__(self, name: str, outcome: str) -> None:
        super().__init__(name, outcome)
        self.name = name
        self.outcome = outcome

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"


class _Settings:
    """A copy of the model's: a lookup reads a dozen of them, and a pydantic model is slow to read."""

    def __init__(self, model: Resolver) -> None:
        for name, value in model:
            setattr(self, name, value)


class _State:
    """What the resolver is set to, and what it remembers from lookup to lookup."""

    __slots__ = ("cache", "failed", "ident", "last", "settings", "turn")

    def __init__(self, settings: Resolver) -> None:
        self.settings = cast("Resolver", _Settings(settings))
        self.ident = _UCLIBC_FIRST_IDENT - 1
        self.turn = 0
        self.cache: dict[str, tuple[float, tuple[str, ...]]] = {}
        self.failed: dict[str, float] = {}
        self.last: dict[str, tuple[float, str]] = {}


def _state(host: Host) -> _State:
    state = host.board.facts.get(_STATE)
    if state is None:
        state = host.board.facts[_STATE] = _State(host.device.resolver)
    assert isinstance(state, _State)
    return state


@lru_cache(4096)
def is_address(name: str) -> bool:
    """Tell whether this is a dotted address rather than a name."""
    return name.replace(".", "").isdigit()


def last_address(host: Host, name: str) -> str | None:
    """Return the address that `name` had last on this link; None if it was never looked up on it."""
    if is_address(name):
        return name
    remembered = _state(host).last.get(name)
    if remembered is None or remembered[0] != host.board.get(LINK_UP):
        return None
    return remembered[1]


async def resolve(
    host: Host, name: str, thread: str | None = None, attempt: int = 0, why: str = ""
) -> tuple[str, ...]:
    """Return the addresses of a name; raises NotResolved, or LinkDown.

    With `thread` the lookup holds that firmware thread until it is over.
    """
    if is_address(name):
        return (name,)
    if thread is None:
        return await _lookup(host, name, attempt, why)
    board = host.board  # after power-off the device has another one
    await board.acquire(host, thread)
    try:
        return await _lookup(host, name, attempt, why)
    finally:
        board.release(thread)


async def _lookup(host: Host, name: str, attempt: int, why: str) -> tuple[str, ...]:
    state = _state(host)
    settings = state.settings
    now = host.now()
    if settings.cache and (kept := state.cache.get(name)) and kept[0] > now:
        return kept[1]
    if settings.failure_kept and state.failed.get(name, now) > now:
        raise NotResolved(name, "failed lately")
    wants_aaaa = name in settings.aaaa
    try:
        if wants_aaaa and settings.aaaa_first:  # this Internet has none, so nothing comes of it
            await _ask(host, state, name, "AAAA", attempt, why)
        addresses, ttl = await _ask(host, state, name, "A", attempt, why)
        if not addresses:
            raise NotResolved(name, _NO_DATA)
        if wants_aaaa and not settings.aaaa_first:
            await _ask(host, state, name, "AAAA", attempt, why)
    except NotResolved:
        if settings.failure_kept:
            state.failed[name] = host.now() + settings.failure_kept
        raise
    state.last[name] = (host.board.get(LINK_UP) or 0.0, addresses[0])
    if settings.cache:
        state.cache[name] = (host.now() + ttl, addresses)
    return addresses


async def _ask(host: Host, state: _State, name: str, qtype: str, attempt: int, why: str) -> _Found:
    """Go through the servers, round by round."""
    settings, lease = state.settings, host.lease
    if lease is None:
        raise LinkDown
    servers = (settings.servers or lease.resolvers)[: settings.most_servers]
    if settings.rotate and servers:
        state.turn = (state.turn + 1) % len(servers)
        servers = servers[state.turn :] + servers[: state.turn]
    problem: NotResolved | None = None
    timeout_s = settings.timeout
    tries = 0
    for _ in range(settings.tries):
        if settings.together and len(servers) > 1:
            why = why or "every server at once"
            return await _race(host, state, servers, (name, qtype, timeout_s, attempt, why))
        for server in servers:
            if problem is not None:
                why = f"resolver: {problem.outcome}, try {tries + 1}"
            question = (name, qtype, timeout_s, attempt + tries, why)
            tries += 1
            try:
                return await _ask_one(host, state, server, question)
            except NotResolved as failure:
                if failure.outcome == _NO_SUCH_NAME or (
                    settings.on_error == "fail" and failure.outcome != NoReply.outcome
                ):
                    raise
                problem = failure
        timeout_s *= settings.timeout_factor
    raise problem or NotResolved(name, "no server")


_Found = tuple[tuple[str, ...], float]
"""Addresses, none if the name has none of that type, and for how many seconds they hold."""

_Question = tuple[str, str, float, int, str]
"""Name, type, timeout in seconds, attempt, why."""


async def _ask_one(host: Host, state: _State, server: str, question: _Question) -> _Found:
    name, qtype, timeout_s, attempt, why = question
    query = dns.query(_ident(host, state), name, qtype)
    about = About("DNS", name, attempt, why)
    try:
        reply = await host.udp_request(server, _PORT, query, timeout_s, about, state.settings.port)
        rcode, addresses, ttl_s = dns.found(reply, qtype)
    except LinkDown:
        raise
    except NetError as problem:
        raise NotResolved(name, problem.outcome) from None
    except ValueError:
        raise NotResolved(name, "garbage") from None
    if rcode != dns.NOERROR:
        raise NotResolved(name, _RCODES.get(rcode, f"rcode {rcode}"))
    return addresses, ttl_s


async def _race(host: Host, state: _State, servers: tuple[str, ...], question: _Question) -> _Found:
    """Ask every server at once; the first answer counts."""
    settled = host.wakeup()
    good: list[_Found] = []
    bad: list[_Found | NetError] = []

    async def ask(child: Host, server: str) -> None:
        try:
            found = await _ask_one(child, state, server, question)
            (good if found[0] else bad).append(found)
        except NetError as problem:
            bad.append(problem)
        if good or len(bad) == len(servers):
            settled.fire()

    for server in servers:
        host.spawn(f"lookup-{server}", partial(ask, server=server))
    await settled.wait()
    if good:
        return good[0]
    if isinstance(bad[-1], NetError):
        raise bad[-1]
    return bad[-1]


_NO_DATA = "no data"
_NO_SUCH_NAME = "no such name"
_RCODES = {dns.NXDOMAIN: _NO_SUCH_NAME, dns.SERVFAIL: "server failure", dns.REFUSED: "refused"}


def _ident(host: Host, state: _State) -> int:
    if state.settings.idents == "random":
        return host.rng.getrandbits(16)
    state.ident = state.ident + 1 & 0xFFFF
    return state.ident
