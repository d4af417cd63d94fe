"""The names of the fake Internet, as a resolver sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from testbed.protocols import dns

if TYPE_CHECKING:
    from collections.abc import Iterable

Answers = tuple[tuple[str, str, int, str], ...]

_SOA_TTL_S = 300


@dataclass(slots=True)
class _Entry:
    """What stands under one name."""

    addresses: tuple[str, ...]
    ttl: int
    answers: int
    chain: tuple[str, ...]


@dataclass(slots=True)
class _Found:
    """What the zone says to a question."""

    rcode: int
    answers: Answers = ()
    messages: dict[bytes, bytes] = field(default_factory=dict)
    """Behind their identifiers: a query -> the message that says it, packed once."""


@dataclass(slots=True)
class _Turn:
    """How often one client asked for one name, and the answers it gets in turn."""

    entry: _Entry
    order: tuple[str, ...]
    nothing: _Found
    """The answer when it asks for a type that the name has not."""
    asked: int = 0
    rotations: dict[int, _Found] = field(default_factory=dict)


class Zone:
    """Name -> addresses, with alias chains and rotation.

    Which addresses an answer carries, and in which order, is a function of the client, the name and
    how often this client asked for it: clients do not change each other's answers.
    """

    def __init__(self) -> None:
        self.down_names: set[str] = set()
        """Names (in lower case) that are answered by SERVFAIL for now."""
        self._entries: dict[str, _Entry] = {}
        self._turns: dict[tuple[str, str], _Turn] = {}

    def add(
        self,
        names: Iterable[str],
        addresses: Iterable[str],
        ttl: int = 60,
        answers: int = 4,
        chain: Iterable[str] = (),
    ) -> None:
        """Add addresses under names, through the aliases of `chain` (canonical name last).

        A name added again gets the further addresses (a pool served from many places); its TTL,
        number of answers and chain stay those of the first time.
        """
        aliases, given = tuple(map(_plain, chain)), tuple(addresses)
        for name in (*map(_plain, names), *aliases):
            behind = aliases[aliases.index(name) + 1 :] if name in aliases else aliases
            entry = self._entries.setdefault(name, _Entry((), ttl, answers, behind))
            entry.addresses += tuple(address for address in given if address not in entry.addresses)
        self._turns.clear()

    def names(self) -> tuple[str, ...]:
        """Return every name, in the order in which they were added."""
        return tuple(self._entries)

    def lookup(self, name: str, qtype: str, client: str) -> tuple[int, Answers]:
        """Return (rcode, answer records) for a client's question; this counts as asked.

        NXDOMAIN for an unknown name, no records (NODATA) for a type it does not have, SERVFAIL for
        a name that is down. Answers repeat the name as it was asked.
        """
        found = self._find(name, qtype, client)
        return found.rcode, found.answers

    def respond(self, query: bytes, client: str) -> bytes:
        """Return the message that answers a client's query; this counts as asked. ValueError on garbage."""
        _, name, qtype = dns.question(query)
        found = self._find(name, qtype, client)
        message = found.messages.get(query[2:])
        if message is None:
            authority = () if found.answers or found.rcode == dns.SERVFAIL else self.authority(name)
            message = dns.reply(query, found.answers, found.rcode, authority=authority)[2:]
            found.messages[query[2:]] = message
        return query[:2] + message

    def _find(self, name: str, qtype: str, client: str) -> _Found:
        turn = self._turns.get((client, name))
        if turn is None:
            entry = self._entries.get(_plain(name))
            if entry is None:
                down = self.down_names and _plain(name) in self.down_names
                return _Found(dns.SERVFAIL if down else dns.NXDOMAIN)
            order = _order(entry.addresses, client, _plain(name))
            turn = _Turn(entry, order, _Found(dns.NOERROR, _aliases(name, entry)))
            self._turns[client, name] = turn
        if self.down_names and (
            _plain(name) in self.down_names or self.down_names.intersection(turn.entry.chain)
        ):
            return _Found(dns.SERVFAIL)
        if qtype != "A":
            return turn.nothing
        at = turn.asked % (len(turn.order) or 1)
        turn.asked += 1
        found = turn.rotations.get(at)
        if found is None:
            found = turn.rotations[at] = _Found(dns.NOERROR, _answers(name, turn, at))
        return found

    def authority(self, name: str) -> Answers:
        """Return the SOA record that goes with a negative answer (RFC 2308 §3)."""
        apex = ".".join(_plain(name).split(".")[-2:])
        soa = f"ns1.{apex} hostmaster.{apex} 2018030801 7200 900 1209600 {_SOA_TTL_S}"
        return ((apex, "SOA", _SOA_TTL_S, soa),)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _order(addresses: tuple[str, ...], client: str, name: str) -> tuple[str, ...]:
    """Return the addresses in the order in which this client goes through them."""
    return tuple(
        sorted(addresses, key=lambda address: sha256(f"{client} {name} {address}".encode()).digest())
    )


def _aliases(name: str, entry: _Entry) -> Answers:
    path = (name, *entry.chain)
    return tuple((alias, "CNAME", entry.ttl, target) for alias, target in pairwise(path))


def _answers(name: str, turn: _Turn, at: int) -> Answers:
    count = min(turn.entry.answers, len(turn.order))
    owner = turn.entry.chain[-1] if turn.entry.chain else name
    chosen = (turn.order[(at + index) % len(turn.order)] for index in range(count))
    return _aliases(name, turn.entry) + tuple((owner, "A", turn.entry.ttl, address) for address in chosen)
