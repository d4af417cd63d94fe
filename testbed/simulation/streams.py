"""TCP connections of simulated hosts: plans played by `testbed.simulation.tcp`, kept where clean.

Rules of this file:
- One request and its answer are one plan, one record and one event.
- A plan on a calm network depends on sizes and delays alone; it is played once and used again.
- TLS is record sizes, handshake messages and timing: no cryptography (docs: limits).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from testbed.host import (
    About,
    Answer,
    CancelledError,
    LinkDown,
    NetError,
    NoReply,
    Outcome,
    Refused,
    StreamLost,
    TlsHello,
    Unreachable,
)
from testbed.simulation import neighbours
from testbed.simulation import tape as t
from testbed.simulation.conditions import LivePath, Server
from testbed.simulation.node import NEVER, Node
from testbed.simulation.plans import (
    BEFORE,
    CLIENT,
    FIN,
    SERVER,
    SYN,
    Message,
    Plan,
    Played,
    Timer,
    keepalive,
    reset,
)
from testbed.simulation.sealing import Sealing
from testbed.simulation.tcp import play
from testbed.simulation.waiting import pause
from testbed.simulation.wire import ip_number, quoted_segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host import Session
    from testbed.simulation.library import Key
    from testbed.simulation.network import Network

FAILURES: dict[str, type[NetError]] = {
    "no-reply": NoReply, "refused": Refused, "unreachable": Unreachable, "lost": StreamLost,
}  # fmt: skip
BULK_BYTES = 48_000
"""Transfers of this size fill their window: they are paced by a rate-limited link, not dropped."""
IDLE_RESET_NS = 1_000_000_000
KEEPALIVE_INTERVAL_NS = 75_000_000_000
KEEPALIVE_PROBES = 9
FAREWELL_NS = 120_000_000_000
SMALL_UP_BYTES, SMALL_DOWN_BYTES = 2_900, 13_000
"""Messages that fit into the initial windows, whatever the window has grown to."""


class Course(NamedTuple):
    """How an operation on a connection goes, in absolute nanoseconds."""

    start: int
    played: Played
    failure: type[NetError] | None
    done: int
    row: int | None
    """Number of the record on the tape, None if nobody sees it."""
    last: int
    """When its last segment passes the router."""


Sizes = tuple[int, int, int, bool]
"""A request and its answer: bytes up, bytes down, the server's time to think (ns), whether it closes."""


class SimStream:
    """A client's connection (see `testbed.host.Stream`)."""

    def __init__(
        self, network: Network, node: Node, behaviour: str, server: Server | None, port: int, peer: str,
        hello: TlsHello | None, keepalive_s: float | None,
    ) -> None:  # fmt: skip
        self.network, self.node, self.behaviour = network, node, behaviour
        self.server = server or Server("nobody", peer, ip_number(peer), 20_000_000, 50)
        self.port = port
        self.peer = (peer, port)
        self.open = False
        self.keepalive_ns = round(keepalive_s * 1e9) if keepalive_s else 0
        self.local_port = node.port()
        self.client = node.lease.address if node.lease else node.name
        self.jitter_ns = network.conditions.jitter_ns(node)
        self.session: Session | None = None
        self.expires = False
        """Whether the server's program may drop the connection by itself."""
        self.began = network.env.now
        station = self.server.station
        self.peer_boots = station.boots if station is not None else 0
        rng = node.rng
        self.seqs = [rng.getrandbits(32), rng.getrandbits(32)]
        self.ipids = [rng.getrandbits(16), rng.getrandbits(16)]
        self.stamps = (node.stamp, rng.getrandbits(31))
        self.echoes = [-NEVER, -NEVER]
        secret = rng.randbytes(32) if hello else b""
        self.sealing = Sealing(hello, secret, self.server.host_name, network.pool)
        window = node.stack.initial_window
        self.cwnd = (window, 10)
        self.timers: tuple[Timer, Timer] | None = None
        """What the kernels learned of the round trip while something was wrong."""
        self.quiet = -NEVER
        """When nothing of the connection is under way any more."""
        self.lost_at = NEVER
        self.row: int | None = None
        self.last = 0
        """When the last segment of that record passes the router."""
        self.course: Course | None = None
        """The latest operation."""
        lan = node.lan_ns + (self.server.station.lan_ns if self.server.station else 0)
        self.lan = lan
        self.wan = (
            self.server.delay_ns + network.conditions.wan_ns + self.jitter_ns if self.server.delay_ns else 0
        )

    # --- the operations -------------------------------------------------------------------

    async def connect(self, timeout_s: float, about: About) -> None:
        """Open the connection, TLS included."""
        up = down = b""
        messages: tuple[Message, ...] = ()
        if self.sealing.hello is not None:
            up, down, messages = self.sealing.handshake()
        plan = Plan(messages, True, self.cwnd)
        now = self.network.env.now
        arp = neighbours.keep(self.network, self.node, now)
        await self._operate(None, plan, up, down, timeout_s, about, now + arp)
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
        self._usable()
        network = self.network
        now = network.env.now
        calm = self._there() if not self.wan else self.node.link == "open" or network.conditions.calm(now)
        if calm and not self.expires and self.session is not None:
            answer = self.session.receive(data, network.unix(now + self.lan + self.wan))
        else:
            answer = self._ask(data, now, round(timeout_s * 1e9))
        whole = answer is not None and complete(answer.data)
        down_data = answer.data if answer is not None else b""
        close = answer is not None and answer.close
        size = self.sealing.size(len(data))
        if answer is None:  # waited for until the program gives up, or a RST comes
            sizes = (size, 1, round(timeout_s * 1e9) + 1, False)
        else:
            sizes = (size, self.sealing.size(len(down_data)), round(answer.think_s * 1e9), close)
        up, down = self.sealing.seal(data), self.sealing.seal(down_data)
        await self._operate(sizes, None, up, down, timeout_s, about, now, whole=whole)
        assert answer is not None
        if close:
            self._gone()
        return answer.data

    async def send(self, data: bytes, about: About) -> None:
        """Send without waiting (see `testbed.host.Stream.send`)."""
        self._usable()
        now = self.network.env.now
        answer = self._ask(data, now, 0)
        sizes = (self.sealing.size(len(data)), 0, 0, False)
        assert answer is None or not answer.data, "the service answered a one-way message"
        exchange, label = self._exchange(about)
        start = max(now, self.quiet)
        if start >= self.lost_at:  # it waits behind data on which the kernel will have given up
            self.network.log.exchange(now, label, exchange, Outcome.OK)
            return
        course = self._course(sizes, None, self.sealing.seal(data), b"", start, NEVER - 1, label, exchange)
        self._adopt(course)
        if not course.played.acknowledged:
            self.lost_at = course.start + course.played.quiet
        self.network.log.exchange(now, label, exchange, Outcome.OK)

    async def idle(self, duration_s: float, about: About) -> None:
        """Stay connected (see `testbed.host.Stream.idle`)."""
        self._usable()
        network, node = self.network, self.node
        env = network.env
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
            if until == node.link_until or until == self.lost_at or missed == KEEPALIVE_PROBES:
                self._break(env.now)
                raise LinkDown if until == node.link_until else StreamLost
            answered = self._probe(about)
            missed = 0 if answered else missed + 1
            probe += self.keepalive_ns if answered else KEEPALIVE_INTERVAL_NS

    async def close(self) -> None:
        """Close in good order; the kernel does the rest."""
        if not self.open:
            return
        now = self.network.env.now
        farewell = self.sealing.farewell()
        plan = Plan(
            (Message(CLIENT, len(farewell), 0, True), Message(SERVER, 0, 0, True)), False, self._window(now),
            2 * (self.lan + self.wan),
        )  # fmt: skip
        if self.node.link != "down" and self.node.lease is not None:
            exchange, label = self._exchange(About(*self.about[:2]))
            start = max(now, self.quiet)
            patience = start + FAREWELL_NS
            course = self._course(None, plan, farewell, b"", start, patience, label, exchange)
            self._adopt(course)
        self._gone()

    def abort(self) -> None:
        """Reset the connection."""
        if self.open:
            self._reset(self.network.env.now)

    def vanish(self, now: int) -> None:
        """Lose the connection without a word: the power or the link went."""
        self._break(now)

    # --- inside ---------------------------------------------------------------------------

    about: About = About("TCP")
    """What the connection was last used for: labels its kernel's own segments."""

    def _usable(self) -> None:
        now = self.network.env.now
        if not self.open:
            raise LinkDown if self.node.link == "down" else StreamLost
        if now >= self.lost_at:
            self._break(now)
            raise StreamLost

    def _window(self, now: int) -> tuple[int, int]:
        if now - self.quiet > IDLE_RESET_NS:
            self.cwnd = (self.node.stack.initial_window, 10)
        return self.cwnd

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

    def forgotten(self, at: int) -> bool:
        """Whether the server has dropped the connection by then; it remembers none from before a restart."""
        station = self.server.station
        if station is not None and station.boots != self.peer_boots:
            return True
        expired = getattr(self.session, "expired", None)
        return bool(expired(self.network.unix(at))) if expired else False

    def _there(self) -> bool:
        """Whether a server that is a device of the home is there, and has been since the connect."""
        station = self.server.station
        return station is None or (station.link == "home" and station.boots == self.peer_boots)

    def _exchange(self, about: About) -> tuple[int, int]:
        self.node.exchanges += 1
        self.about = about
        return self.node.exchanges, self.network.label(self.node.name, self.behaviour, about)

    async def _operate(
        self,
        sizes: Sizes | None,
        plan: Plan | None,
        up: bytes,
        down: bytes,
        timeout_s: float,
        about: About,
        start: int,
        *,
        whole: bool = True,
    ) -> None:
        """Play a plan, wait for its end, and raise how it failed."""
        network, node = self.network, self.node
        env = network.env
        exchange, label = self._exchange(about)
        deadline = env.now + round(timeout_s * 1e9)
        start = max(start, self.quiet)
        if start >= deadline:  # the kernel is still busy with what was sent before
            course = Course(start, Played(quiet=0), NoReply, deadline, None, start)
        else:
            course = self._course(sizes, plan, up, down, start, deadline, label, exchange)
            if not whole and course.failure is None:
                course = course._replace(failure=NoReply, done=deadline)
        failure, done = course.failure, course.done
        if self.lost_at < done:
            failure, done = StreamLost, self.lost_at
        if node.link_until <= done:
            failure, done = LinkDown, node.link_until
        self._adopt(course)
        if course.row is not None and failure is not None:
            network.tape.cut_plan(course.row, done)
        try:
            await pause(env, done - env.now)
        except CancelledError:
            if course.row is not None:
                network.tape.cut_plan(course.row, env.now)
            network.log.exchange(env.now, label, exchange, Outcome.CANCELLED)
            raise
        network.log.exchange(done, label, exchange, failure.outcome if failure else Outcome.OK)
        if failure is not None:
            if failure is StreamLost or failure is LinkDown:
                self._break(env.now)
            raise failure
        node.confirmed_at = done
        neighbours.keep(network, node, done)

    def _course(
        self,
        sizes: Sizes | None,
        plan: Plan | None,
        up: bytes,
        down: bytes,
        start: int,
        deadline: int,
        label: int,
        exchange: int,
    ) -> Course:
        """Settle how an operation goes, and put its record on the tape.

        Either `sizes` says it (a request and its answer), or `plan` does.
        """
        network, node = self.network, self.node
        conditions, library = network.conditions, network.library
        shift, pace = 0, 0
        calm = self._there() if not self.wan else node.link == "open"
        if self.wan and not calm and conditions.calm(network.env.now):
            calm, shift, pace = self._room(start, len(up), len(down))
        if sizes is not None:
            small = sizes[0] < SMALL_UP_BYTES and sizes[1] < SMALL_DOWN_BYTES
            cwnd = (node.stack.initial_window, 10) if small else self._window(start)
            key: Key = (sizes, cwnd, id(node.stack), self.lan, self.wan, pace)
        else:
            key = (plan, id(node.stack), self.lan, self.wan, pace)
            cwnd = self.cwnd
        if calm and (self.session is not None or self.port in self.server.ports):
            script = library.find(key)
            if script is None:
                chosen = plan or self._turns(sizes, cwnd)
                script = library.make(key, chosen, node.stack, self.lan, self.wan, pace)
            played = script.played
            began = start + shift
            last = began + script.span
            end = max(last, began + played.quiet)
            if end < conditions.next_change and end < node.link_until and began + played.done <= deadline:
                row = self._record(script.number, began, up, down, label, exchange, script.span)
                self.timers = None
                return Course(began, played, None, began + played.done, row, last)
        chosen = (plan or self._turns(sizes, cwnd))._replace(timers=self.timers)
        path = LivePath(conditions, node, self.server, self.port, self)
        played = play(chosen, node.stack, network.server_stack, path, start, min(deadline, node.link_until))
        self.timers = played.timers
        script = network.tape.script(played, node.stack, network.server_stack)
        row = self._record(script.number, start, up, down, label, exchange, script.span)
        self._errors(played, start, label)
        failure = FAILURES.get(played.outcome)
        return Course(start, played, failure, start + played.done, row, start + script.span)

    def _room(self, start: int, up: int, down: int) -> tuple[bool, int, int]:
        """See what a rate-limited WAN does to an operation: whether it is calm, its delay, its pace."""
        conditions = self.network.conditions
        bucket, upwards = conditions.down_bucket, conditions.up_bucket
        if bucket is None or upwards is None:
            return True, 0, 0
        size = up + down + 600
        if upwards.room(start, up + 300) and bucket.room(start, size):
            return True, 0, 0
        if size < BULK_BYTES:
            return False, 0, 0
        wait = bucket.wait(start)
        bucket.owe(start, size)
        return True, max(0, wait - bucket.queue_ns), round(1000 / bucket.bytes_per_ns)

    def _turns(self, sizes: Sizes | None, cwnd: tuple[int, int]) -> Plan:
        """Return the plan of a request and its answer."""
        assert sizes is not None
        up, down, think, close = sizes
        messages = [Message(CLIENT, up)]
        if down:
            messages.append(Message(SERVER, down, think))
        if close:
            messages += [Message(SERVER, 0, 0, True), Message(CLIENT, 0, 0, True)]
        return Plan(tuple(messages), False, cwnd, 2 * (self.lan + self.wan))

    def _errors(self, played: Played, start: int, label: int) -> None:
        """Record the ICMP errors that the router sent about the segments of a plan."""
        network, node = self.network, self.node
        for when, seq, index in played.unreachable:
            size = next((s.length for s in played.segments if s.side == CLIENT and s.seq == seq), 0)
            quoted = quoted_segment(
                node.model.ttl,
                (self.ipids[0] + index) & 0xFFFF,
                (node.ip, self.local_port),
                (self.server.ip, self.port),
                self.seqs[0] + seq,
                40 + size,
            )
            network.unreachable(node, start + when, label, quoted, network.code(start + when), None)

    def _record(
        self, script: int, start: int, up: bytes, down: bytes, label: int, exchange: int, span: int
    ) -> int | None:
        node, server, tape = self.node, self.server, self.network.tape
        if node.link != "home" or start + span < 0:
            return None
        up_at = len(tape.arena)
        tape.arena += up
        down_at = up_at + len(up)
        tape.arena += down
        return tape.plan(
            start, NEVER, NEVER, label, exchange, script, node.mac_int,
            server.mac_int or self.network.router.mac, node.ip, server.ip, self.local_port, self.port,
            node.model.ttl | server.ttl << 8, *self.seqs, *self.ipids, up_at, down_at, len(up), len(down),
            *self.stamps, self.echoes[SERVER], self.echoes[CLIENT],
        )  # fmt: skip

    def _adopt(self, course: Course) -> None:
        """Move the connection's counters past a plan; its delayed ACK yields to the next words."""
        played = course.played
        if self.row is not None and self.last >= course.start:
            self.network.tape.cut_plan(self.row, course.start, t.P_ACK_CUT)
        self.row, self.last, self.course = course.row, course.last, course
        seqs, ipids, advance, counts = self.seqs, self.ipids, played.advance, played.counts
        seqs[0] = (seqs[0] + advance[0]) & 0xFFFFFFFF
        seqs[1] = (seqs[1] + advance[1]) & 0xFFFFFFFF
        ipids[0] = (ipids[0] + counts[0]) & 0xFFFF
        ipids[1] = (ipids[1] + counts[1]) & 0xFFFF
        client, server = played.last_sent
        if client != BEFORE:
            self.echoes[0] = course.start + client
        if server != BEFORE:
            self.echoes[1] = course.start + server
        self.cwnd = played.cwnd
        quiet = course.start + played.quiet
        if quiet > self.quiet:
            self.quiet = quiet

    def _probe(self, about: About) -> bool:
        """Send a keep-alive probe (RFC 9293 §3.8.4); tell whether it is answered."""
        network, conditions = self.network, self.network.conditions
        at = network.env.now
        exchange, label = self._exchange(about)
        seen = at + self.lan
        answered = self.node.link == "open" or (
            conditions.uplink_at(seen) == "up"
            and conditions.uplink_at(seen + 2 * self.wan) == "up"
            and conditions.down(self.server, seen) is None
        )
        key = ("keepalive", self.lan, self.wan, answered)
        make = partial(keepalive, self.lan, self.wan, answered=answered)
        script = network.library.kept(key, self.node.stack, make)
        row = self._record(script.number, at, b"", b"", label, exchange, script.span)
        if row is not None:
            network.tape.cut_plan(row, self.node.link_until)
        self._adopt(Course(at, script.played, None, at, row, at))
        return answered

    def _reset(self, now: int) -> None:
        node = self.node
        if self.row is not None and self.last > now:
            self.network.tape.cut_plan(self.row, now)
        if node.link != "down" and node.lease is not None:
            self._rewind(now)
            exchange, label = self._exchange(About(*self.about[:2], why="abort"))
            script = self.network.library.kept(("reset", self.lan), node.stack, partial(reset, self.lan))
            row = self._record(script.number, now, b"", b"", label, exchange, self.lan)
            if row is not None and now + self.lan >= node.link_until:
                self.network.tape.cut_plan(row, now)
        self._gone()

    def _rewind(self, now: int) -> None:
        """Set the counters to what an operation that is broken off had sent and heard by now."""
        course = self.course
        if course is None or (course.failure is None and self.last <= now):
            return
        advance = course.played.advance
        base = [(self.seqs[side] - advance[side]) & 0xFFFFFFFF for side in (CLIENT, SERVER)]
        sent = heard = 0
        for segment in course.played.segments:
            if segment.side == CLIENT and course.start + segment.sent <= now:
                sent = max(sent, segment.seq + segment.length + bool(segment.flags & (SYN | FIN)))
                heard = max(heard, segment.ack)
        self.seqs = [(base[CLIENT] + sent) & 0xFFFFFFFF, (base[SERVER] + heard) & 0xFFFFFFFF]

    def _break(self, now: int) -> None:
        if self.row is not None and self.last > now:
            self.network.tape.cut_plan(self.row, now)
        self._gone()

    def _gone(self) -> None:
        self.open = False
        self.node.streams.discard(self)
