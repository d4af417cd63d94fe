"""The kernel's half of a simulated connection: its counters, and how its plans go.

Rules of this file:
- A plan on a calm network depends on sizes and delays alone; it is played once and used again.
- Whatever else happens is played on the live path, segment by segment.
"""

from __future__ import annotations

from functools import partial
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from testbed.host import (
    About,
    NetError,
    NoReply,
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
    FRESH,
    SERVER,
    SYN,
    Message,
    Plan,
    Played,
    Segment,
    Timer,
    keepalive,
    reset,
    syn_options,
)
from testbed.simulation.sealing import Sealing
from testbed.simulation.tcp import play
from testbed.simulation.wire import ip_number, tcp_packet

if TYPE_CHECKING:
    from testbed.host import Session
    from testbed.kernel.acks import AckState
    from testbed.simulation.library import Key
    from testbed.simulation.network import Network

FAILURES: dict[str, type[NetError]] = {
    "no-reply": NoReply, "refused": Refused, "unreachable": Unreachable, "lost": StreamLost,
}  # fmt: skip
_SOME_TCP = About("TCP")
BULK_BYTES = 48_000
"""Transfers of this size fill their window: they are paced by a rate-limited link, not dropped."""
IDLE_RESET_NS = 1_000_000_000
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


Words = tuple[t.Payload, int, t.Payload, int]
"""What the client says in an operation and its bytes on the wire, and the same of the server."""
SILENCE: Words = (b"", 0, b"", 0)

Sizes = tuple[int, int, int, bool]
"""A request and its answer: bytes up, bytes down, the server's time to think (ns), whether it closes."""


class Connection:
    """A client's connection as its kernel keeps it (see `testbed.simulation.streams`)."""

    # Beyond thirty attributes an object without slots gets slower to read.
    __slots__ = (
        "about", "behaviour", "client", "client_ipid", "client_sent", "client_seq", "client_stamp",
        "course", "cwnd", "errors", "expires", "first_cwnd", "heard", "jitter_ns", "keepalive_ns", "label",
        "lan", "last", "local_port", "lost_at", "network", "node", "open", "peer", "peer_boots", "port",
        "quiet", "row", "sealing", "server", "server_ipid", "server_mac", "server_sent", "server_seq",
        "server_stamp", "session", "timers", "ttls", "wan", "way",
    )  # fmt: skip

    def __init__(
        self, network: Network, node: Node, behaviour: str, server: Server | None, port: int, peer: str,
        hello: TlsHello | None, keepalive_s: float | None,
    ) -> None:  # fmt: skip
        self.network, self.node, self.behaviour = network, node, behaviour
        self.server = server or Server("nobody", peer, ip_number(peer), 20_000_000, 50)
        self.port = port
        self.peer = (peer, port)
        self.about: About | None = None
        """What the connection was last used for: labels its kernel's own segments …"""
        self.label = -1
        """… by this label."""
        self.open = False
        self.keepalive_ns = round(keepalive_s * 1e9) if keepalive_s else 0
        self.local_port = node.port()
        self.client = node.lease.address if node.lease else node.name
        self.jitter_ns = network.conditions.jitter_ns(node)
        self.session: Session | None = None
        self.expires = False
        """Whether the server's program may drop the connection by itself."""
        station = self.server.station
        self.peer_boots = station.boots if station is not None else 0
        rng = node.rng
        # What each side sends next; they wrap around when they are written.
        self.client_seq, self.server_seq = rng.getrandbits(32), rng.getrandbits(32)
        self.client_ipid, self.server_ipid = rng.getrandbits(16), rng.getrandbits(16)
        self.client_stamp, self.server_stamp = node.stamp, rng.getrandbits(31)
        self.client_sent = self.server_sent = -NEVER
        """When each side last sent something that arrived: what the other's timestamps echo."""
        secret = rng.randbytes(32) if hello else b""
        self.sealing = Sealing(hello, secret, self.server.host_name, network.tape.pool)
        self.cwnd = self.first_cwnd = (node.stack.initial_window, 10)
        self.timers: tuple[Timer, Timer] | None = None
        """What the kernels learned of the round trip while something was wrong."""
        self.heard: tuple[Played, int] | None = None
        """The latest operation that touched the delayed ACKs, and when it began."""
        self.quiet = -NEVER
        """When nothing of the connection is under way any more."""
        self.lost_at = NEVER
        self.row: int | None = None
        self.last = 0
        """When the last segment of that record passes the router."""
        self.errors: list[tuple[int, int, int, int]] = []
        """ICMP errors about the latest operation: when the packet and the error pass, label, exchange."""
        self.course: Course | None = None
        """The latest operation."""
        lan = node.lan_ns + (self.server.station.lan_ns if self.server.station else 0)
        self.lan = lan
        self.wan = (
            self.server.delay_ns + network.conditions.wan_ns + self.jitter_ns if self.server.delay_ns else 0
        )
        self.way = (id(node.stack), self.lan, self.wan)
        self.ttls = node.model.ttl | self.server.ttl << 8
        self.server_mac = self.server.mac_int or network.router.mac

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
        node = self.node
        node.exchanges += 1
        if about is not self.about:
            self.about = about
            self.label = self.network.label(node.name, self.behaviour, about)
        return node.exchanges, self.label

    def _course(
        self,
        sizes: Sizes | None,
        plan: Plan | None,
        words: Words,
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
        if self.wan:
            calm = node.link == "open"
            if not calm and conditions.calm(network.env.now):
                calm, shift, pace = self._room(start, words[1], words[3])
        else:
            calm = self._there()
        acks = plan.acks if plan is not None else self._acks(start)
        if sizes is not None:
            small = sizes[0] < SMALL_UP_BYTES and sizes[1] < SMALL_DOWN_BYTES
            cwnd = self.first_cwnd if small else self._window(start)
            key: Key = (sizes, cwnd, acks, self.way, pace)
        else:
            key = (plan, self.way, pace)
            cwnd = self.cwnd
        if calm and (self.session is not None or self.port in self.server.ports):
            script = library.find(key)
            if script is None:
                chosen = plan or self._turns(sizes, cwnd, acks)
                script = library.make(key, chosen, node.stack, self.lan, self.wan, pace)
            played = script.played
            began = start + shift
            done, end = began + played.done, began + script.end
            if end < conditions.next_change and end < node.link_until and done <= deadline:
                row = self._record(script.number, began, words, label, exchange, script.span)
                self.timers = None
                if script.heard is not None and began + script.heard > node.router_fresh_until:
                    neighbours.hears(network, node, began + script.heard)
                return Course(began, played, None, done, row, began + script.span)
        chosen = (plan or self._turns(sizes, cwnd, acks))._replace(timers=self.timers)
        path = LivePath(conditions, node, self.server, self.port, self)
        played = play(chosen, node.stack, network.server_stack, path, start, min(deadline, node.link_until))
        self.timers = played.timers
        script = network.tape.script(played, node.stack, network.server_stack)
        row = self._record(script.number, start, words, label, exchange, script.span)
        self._errors(played, start, label, exchange, words)
        if script.heard is not None:
            neighbours.hears(network, node, start + script.heard)
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

    def _acks(self, start: int) -> tuple[AckState, AckState]:
        """Return what the delayed-ACK engines of both sides remember at the start of an operation."""
        if self.heard is None:
            return FRESH
        played, began = self.heard
        passed = start - began
        if passed >= played.rests:
            return played.acks_rested
        mine, theirs = played.acks_cut if self.last >= start else played.acks
        return mine.later(passed), theirs.later(passed)

    def _turns(self, sizes: Sizes | None, cwnd: tuple[int, int], acks: tuple[AckState, AckState]) -> Plan:
        """Return the plan of a request and its answer."""
        assert sizes is not None
        up, down, think, close = sizes
        messages = [Message(CLIENT, up)]
        if down:
            messages.append(Message(SERVER, down, think))
        if close:
            messages += [Message(SERVER, 0, 0, True), Message(CLIENT, 0, 0, True)]
        return Plan(tuple(messages), False, cwnd, 2 * (self.lan + self.wan), None, acks)

    def _errors(self, played: Played, start: int, label: int, exchange: int, words: Words) -> None:
        """Record the ICMP errors that the router sent about the segments of a plan."""
        network, node = self.network, self.node
        self.errors = []
        for when, segment, index in played.unreachable:
            at = start + when
            at += neighbours.hears(network, node, at)
            quoted = self._packet(segment, start, index, words)
            code = network.code(start + segment.at)
            told = network.unreachable(node, at, label, exchange, quoted, code, None)
            self.errors.append((start + segment.at, at, told, exchange))

    def _cut_off(self, now: int) -> None:
        """Take back what the latest operation would still send after `now`, and the errors about it."""
        if self.row is not None and self.last > now:
            self.network.tape.cut_plan(self.row, now)
        last = max((at for seen, at, _, _ in self.errors if seen <= now), default=now)
        for label, exchange in {(label, exchange) for _, at, label, exchange in self.errors if at > last}:
            self.network.tape.cut_datagrams(label, exchange, last)
        self.errors = []

    def _packet(self, segment: Segment, start: int, index: int, words: Words) -> bytes:
        """Return a segment of the client as its IP packet, as the record on the tape is rendered."""
        node, peer = self.node, self.network.server_stack
        stack, syn = node.stack, bool(segment.flags & SYN)
        echoed = self.server_sent if segment.echo == BEFORE else start + segment.echo
        stamps = pack(
            ">II",
            ((start + segment.sent) // 1_000_000 + self.client_stamp) & 0xFFFFFFFF,
            (echoed // 1_000_000 + self.server_stamp) & 0xFFFFFFFF if echoed > -NEVER else 0,
        )
        options = b""
        if syn:
            options = syn_options(stack)
            if stack.timestamps:
                options = options[:8] + stamps + options[16:]
        elif stack.timestamps and peer.timestamps:
            options = b"\x01\x01\x08\x0a" + stamps
        up = self.network.tape.spelled(words[0], words[1])
        return tcp_packet(
            node.ttl,
            (self.client_ipid + index) & 0xFFFF,
            (node.ip, self.local_port),
            (self.server.ip, self.port),
            (self.client_seq + segment.seq, 0 if syn else self.server_seq + segment.ack),
            segment.flags,
            stack.window if syn else stack.window_field(peer),
            options,
            up[segment.payload : segment.payload + segment.length],
        )

    def _record(
        self, script: int, start: int, words: Words, label: int, exchange: int, span: int
    ) -> int | None:
        node, server, tape = self.node, self.server, self.network.tape
        if node.link != "home" or start + span < 0:
            return None
        up, up_bytes, down, down_bytes = words
        row = t.pack_plan(
            start, NEVER, NEVER, label, exchange, script, node.mac_int,
            self.server_mac, node.ip, server.ip, self.local_port, self.port, self.ttls,
            self.client_seq, self.server_seq, self.client_ipid, self.server_ipid,
            up if up.__class__ is int else tape.payload(up),
            down if down.__class__ is int else tape.payload(down), up_bytes, down_bytes,
            self.client_stamp, self.server_stamp, self.server_sent, self.client_sent,
        )  # fmt: skip
        return tape.plan(row)

    def _adopt(self, course: Course) -> None:
        """Move the connection's counters past a plan; its delayed ACK yields to the next words."""
        start, played, _, _, row, last = course
        if self.last >= start and self.row is not None:
            self.network.tape.cut_plan(self.row, start, t.P_ACK_CUT)
        self.row, self.last, self.course = row, last, course
        if played.used:
            self.heard = (played, start)
        up, down = played.advance
        self.client_seq += up
        self.server_seq += down
        up, down = played.counts
        self.client_ipid += up
        self.server_ipid += down
        client, server = played.last_sent
        if client != BEFORE:
            self.client_sent = start + client
        if server != BEFORE:
            self.server_sent = start + server
        self.cwnd = played.cwnd
        quiet = start + played.quiet
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
        row = self._record(script.number, at, SILENCE, label, exchange, script.span)
        if row is not None:
            network.tape.cut_plan(row, self.node.link_until)
        self._adopt(Course(at, script.played, None, at, row, at))
        return answered

    def _reset(self, now: int) -> None:
        node = self.node
        self._cut_off(now)
        if node.link != "down" and node.lease is not None:
            self._rewind(now)
            protocol, service, _, _ = self.about or _SOME_TCP
            exchange, label = self._exchange(About(protocol, service, why="abort"))
            script = self.network.library.kept(("reset", self.lan), node.stack, partial(reset, self.lan))
            row = self._record(script.number, now, SILENCE, label, exchange, self.lan)
            if row is not None and now + self.lan >= node.link_until:
                self.network.tape.cut_plan(row, now)
        self._gone()

    def _rewind(self, now: int) -> None:
        """Set the counters to what an operation that is broken off had sent and heard by now."""
        course = self.course
        if course is None or (course.failure is None and self.last <= now):
            return
        up, down = course.played.advance
        sent = heard = 0
        for segment in course.played.segments:
            if segment.side == CLIENT and course.start + segment.sent <= now:
                sent = max(sent, segment.seq + segment.length + bool(segment.flags & (SYN | FIN)))
                heard = max(heard, segment.ack)
        self.client_seq += sent - up
        self.server_seq += heard - down

    def _break(self, now: int) -> None:
        self._cut_off(now)
        self._gone()

    def _gone(self) -> None:
        self.open = False
        self.node.streams.discard(self)

    def _window(self, now: int) -> tuple[int, int]:
        if now - self.quiet > IDLE_RESET_NS:
            self.cwnd = (self.node.stack.initial_window, 10)
        return self.cwnd
