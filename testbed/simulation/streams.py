"""TCP connections of simulated hosts: what their programs can do with them.

Rules of this file:
- One request and its answer are one plan, one record and one event.
- What the kernels do with a plan is `testbed.simulation.connection`'s.
- TLS is record sizes, handshake messages and timing: no cryptography (docs: limits).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from testbed.host import (
    About,
    Answer,
    CancelledError,
    LinkDown,
    NoReply,
    Outcome,
    StreamLost,
)
from testbed.kernel import keepalive
from testbed.simulation import neighbours
from testbed.simulation.connection import SILENCE, Connection, Course, Sizes, Words
from testbed.simulation.node import NEVER
from testbed.simulation.plans import (
    CLIENT,
    SERVER,
    Message,
    Plan,
    Played,
)
from testbed.simulation.waiting import pause

if TYPE_CHECKING:
    from collections.abc import Callable

FAREWELL_NS = 120_000_000_000
_OK = Outcome.OK


class SimStream(Connection):
    """A client's connection (see `testbed.host.Stream`)."""

    __slots__ = ()

    async def connect(self, timeout_s: float, about: About) -> None:
        """Open the connection, TLS included."""
        words: Words = SILENCE
        messages: tuple[Message, ...] = ()
        if self.sealing.hello is not None:
            up, down, messages = self.sealing.handshake()
            words = (up, len(up), down, len(down))
        plan = Plan(messages, True, self.cwnd)
        now = self.network.env.now
        arp = neighbours.sends(self.network, self.node, now)
        await self._operate(None, plan, words, timeout_s, about, now + arp, True)
        service = self.server.ports.get(self.port)
        assert service is not None, "a connection to a port that does not listen"
        self.session = service.session((self.client, self.local_port), self.network.unix(now))
        self.expires = hasattr(self.session, "expired")
        self.open = True
        self.node.streams.add(self)

    async def request(
        self, data: bytes, complete: Callable[[bytes], bool], timeout_s: float, about: About
    ) -> bytes:
        """Send and return the answer (see `testbed.host.Stream.request`)."""
        network = self.network
        now = network.env.now
        if not self.open or now >= self.lost_at:
            self._lost(now)
        calm = self._there() if not self.wan else self.node.link == "open" or network.conditions.calm(now)
        if calm and not self.expires and self.session is not None:
            answer = self.session.receive(data, network.unix(now + self.lan + self.wan))
        else:
            answer = self._ask(data, now, round(timeout_s * 1e9))
        sealing = self.sealing
        size_of = sealing.size
        size = size_of(len(data))
        if answer is None:  # waited for until the program gives up, or a RST comes
            sizes, whole = (size, 1, round(timeout_s * 1e9) + 1, False), False
            words: Words = (sealing.seal(data, size), size, b"", 0)
        else:
            down_data = answer.data
            whole = complete(down_data)
            down_size = size_of(len(down_data))
            sizes = (size, down_size, round(answer.think_s * 1e9), answer.close)
            words = (sealing.seal(data, size), size, sealing.seal(down_data, down_size), down_size)
        await self._operate(sizes, None, words, timeout_s, about, now, whole)
        assert answer is not None
        if answer.close:
            self._gone()
        return answer.data

    async def send(self, data: bytes, about: About) -> None:
        """Send without waiting (see `testbed.host.Stream.send`)."""
        now = self.network.env.now
        if not self.open or now >= self.lost_at:
            self._lost(now)
        answer = self._ask(data, now, 0)
        size = self.sealing.size(len(data))
        sizes = (size, 0, 0, False)
        assert answer is None or not answer.data, "the service answered a one-way message"
        exchange, label = self._exchange(about)
        start = max(now, self.quiet)
        if start >= self.lost_at:  # it waits behind data on which the kernel will have given up
            self.network.log.exchange(now, label, exchange, Outcome.OK)
            return
        words = (self.sealing.seal(data, size), size, b"", 0)
        course = self._course(sizes, None, words, start, NEVER - 1, label, exchange)
        self._adopt(course)
        self._confirm(course)
        if not course.played.acknowledged:
            self.lost_at = course.start + course.played.quiet
        self.network.log.exchange(now, label, exchange, Outcome.OK)

    async def idle(self, duration_s: float, about: About) -> None:
        """Stay connected (see `testbed.host.Stream.idle`)."""
        network, node = self.network, self.node
        env = network.env
        if not self.open or env.now >= self.lost_at:
            self._lost(env.now)
        end = env.now + round(duration_s * 1e9)
        probe = max(env.now, self.quiet) + self.keepalive_ns if self.keepalive_ns else NEVER
        missed = 0
        while True:
            until = min(end, probe, self.lost_at, node.link_until)
            await pause(env, until - env.now)
            if not self.open:
                raise LinkDown if node.link == "down" else StreamLost
            if until == end:
                return
            if until == node.link_until or until == self.lost_at or missed == keepalive.PROBES:
                self._break(env.now)
                raise LinkDown if until == node.link_until else StreamLost
            answered = self._probe(about)
            missed = 0 if answered else missed + 1
            if answered:
                probe = self.quiet + self.keepalive_ns
            else:
                probe += round(keepalive.interval_s(self.keepalive_ns / 1e9) * 1e9)

    async def close(self) -> None:
        """Close in good order; the kernel does the rest."""
        if not self.open:
            return
        now = self.network.env.now
        farewell = self.sealing.farewell()
        if self.node.link != "down" and self.node.lease is not None:
            assert self.about is not None
            exchange, label = self._exchange(About(*self.about[:2]))
            start = max(now, self.quiet)
            plan = Plan(
                (Message(CLIENT, len(farewell), 0, True), Message(SERVER, 0, 0, True)), False,
                self._window(now), 2 * (self.lan + self.wan), None, self._acks(start),
            )  # fmt: skip
            patience = start + FAREWELL_NS
            words = (farewell, len(farewell), b"", 0)
            course = self._course(None, plan, words, start, patience, label, exchange)
            self._adopt(course)
            self._confirm(course)
        self._gone()

    def abort(self) -> None:
        """Reset the connection."""
        if self.open:
            self._reset(self.network.env.now)

    def vanish(self, now: int) -> None:
        """Lose the connection without a word: the power or the link went."""
        self._break(now)

    # --- inside ---------------------------------------------------------------------------

    def _confirm(self, course: Course) -> None:
        """Note that the gateway is there: what was sent without waiting is acknowledged."""
        if course.played.acknowledged:
            self.node.confirmed_at = max(self.node.confirmed_at, course.start + course.played.quiet)

    def _lost(self, now: int) -> NoReturn:
        """Say that the connection is of no use any more."""
        if not self.open:
            raise LinkDown if self.node.link == "down" else StreamLost
        self._break(now)
        raise StreamLost

    def _ask(self, data: bytes, now: int, timeout: int) -> Answer | None:
        """Let the server's program see the message, if it will reach it."""
        assert self.session is not None
        conditions = self.network.conditions
        arrives = now + self.lan + self.wan
        if self.wan and self.node.link == "home" and conditions.uplink_at(arrives) != "up":
            arrives = conditions.timeline.uplink.next_change(arrives)
            while arrives < now + timeout and conditions.uplink_at(arrives) != "up":
                arrives = conditions.timeline.uplink.next_change(arrives)
            if arrives >= now + timeout:
                return None
        if self.forgotten(arrives) or not self._there():
            return None
        return self.session.receive(data, self.network.unix(arrives))

    async def _operate(
        self,
        sizes: Sizes | None,
        plan: Plan | None,
        words: Words,
        timeout_s: float,
        about: About,
        start: int,
        whole: bool,
    ) -> None:
        """Play a plan, wait for its end, and raise how it failed."""
        network, node = self.network, self.node
        env = network.env
        now = env.now
        exchange, label = self._exchange(about)
        deadline = now + round(timeout_s * 1e9)
        if start < self.quiet:
            start = self.quiet
        waits = start >= deadline  # the kernel is still busy with what was sent before
        if waits:
            course = Course(start, Played(quiet=0), NoReply, deadline, None, start)
        else:
            course = self._course(sizes, plan, words, start, deadline, label, exchange)
            if not whole and course.failure is None:
                course = course._replace(failure=NoReply, done=deadline)
        failure, done = course.failure, course.done
        if self.lost_at < done:
            failure, done = StreamLost, self.lost_at
        if node.link_until <= done:
            failure, done = LinkDown, node.link_until
        if not waits:
            self._adopt(course)
            if failure is not None:
                self._cut_off(done)
        try:
            await pause(env, done - now)
        except CancelledError:
            self._cut_off(env.now)
            network.log.exchange(env.now, label, exchange, Outcome.CANCELLED)
            raise
        network.log.exchange(done, label, exchange, failure.outcome if failure else _OK)
        if failure is not None:
            if failure is StreamLost or failure is LinkDown:
                self._break(env.now)
            raise failure
        node.confirmed_at = done
        if done > node.gateway_fresh_until:
            neighbours.sends(network, node, done)
