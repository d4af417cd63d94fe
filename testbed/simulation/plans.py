"""What two kernels may say to each other on a connection, and what became of it.

Times are integer nanoseconds. Sequence offsets count from each side's next sequence number at the
start of the plan, so that a played plan can be used again at any time on any connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from testbed.kernel.acks import AckState

if TYPE_CHECKING:
    from testbed.models.device import TcpStack

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
CLIENT, SERVER = 0, 1
MAX_RECEIVE_WINDOW = 131_072
BEFORE = -(1 << 62)
"""`Segment.echo` when what is echoed was sent before the plan began."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The numbers of one kernel, in segments and nanoseconds."""

    window: int
    window_scale: int | None
    timestamps: bool
    sack: bool
    mss: int
    syn_timeout: int
    syn_retries: int
    min_rto: int
    max_rto: int
    data_retries: int
    delayed_ack: int
    initial_window: int

    @classmethod
    def of(cls, model: TcpStack) -> Stack:
        """Convert a device model's numbers."""
        return cls(
            model.window,
            model.window_scale,
            model.timestamps,
            model.sack,
            model.mss,
            round(model.syn_timeout * 1e9),
            model.syn_retries,
            round(model.min_rto * 1e9),
            round(model.max_rto * 1e9),
            model.data_retries,
            round(model.delayed_ack * 1e9),
            model.initial_window,
        )

    def scales_with(self, peer: Stack) -> bool:
        """Tell whether windows are scaled: both must have offered it (RFC 7323 §2.2)."""
        return self.window_scale is not None and peer.window_scale is not None

    def receive_window(self, peer: Stack) -> int:
        """Return the bytes that `peer` may have in flight towards this side once connected."""
        return MAX_RECEIVE_WINDOW if self.scales_with(peer) else 65_535

    def window_field(self, peer: Stack) -> int:
        """Return the window field of segments after the handshake."""
        scale = self.window_scale if self.scales_with(peer) else 0
        return self.receive_window(peer) >> (scale or 0)


def syn_options(stack: Stack, asker: Stack | None = None) -> bytes:
    """Return a SYN's options: MSS, SACK, timestamps (zeros), window scale, in Linux's order.

    The answer to `asker`'s SYN offers only what that SYN did (RFC 7323 §1.3, RFC 2018 §2).
    """
    asked = asker or stack
    data = b"\x02\x04" + stack.mss.to_bytes(2, "big")
    sack = stack.sack and asked.sack
    if stack.timestamps and asked.timestamps:
        data += (b"\x04\x02" if sack else b"\x01\x01") + b"\x08\x0a" + bytes(8)
    elif sack:
        data += b"\x01\x01\x04\x02"
    if stack.window_scale is not None and asked.window_scale is not None:
        data += b"\x01\x03\x03" + bytes([stack.window_scale])
    return data


class Message(NamedTuple):
    """A turn in a plan: `side` sends `size` bytes after thinking; then closes if `fin`."""

    side: int
    size: int
    think: int = 0
    fin: bool = False


class Timer(NamedTuple):
    """What a side knows of the round trip (RFC 6298 §2), ns."""

    smoothed: int
    varies: int
    rto: int


FRESH = (AckState(), AckState())
"""What the delayed-ACK engines of a new connection remember."""


class Plan(NamedTuple):
    """What the two programs want to say to each other."""

    messages: tuple[Message, ...]
    handshake: bool = False
    cwnd: tuple[int, int] = (10, 10)
    """Congestion windows at the start, in segments, client and server."""
    rtt: int = 0
    """Round trip known from before, ns; 0 if none."""
    timers: tuple[Timer, Timer] | None = None
    """What client and server know of it where it is not that steady."""
    acks: tuple[AckState, AckState] = FRESH
    """What their delayed-ACK engines remember."""


class Segment(NamedTuple):
    """A segment as captured. Times are relative to the plan's start."""

    at: int
    side: int
    flags: int
    seq: int
    ack: int
    payload: int
    """Offset of the payload in what the side sends within this plan."""
    length: int
    sent: int
    echo: int
    """When the segment whose timestamp is echoed was sent; `BEFORE` if before the plan."""
    delayed: bool
    """A delayed ACK of the client: it is not sent if the client speaks before it is due."""


class Fate(NamedTuple):
    """What the network does with a segment; None is never."""

    captured: int | None
    arrives: int | None
    unreachable: int | None = None
    """When an ICMP error about it comes back to the client."""


class Path(Protocol):
    """The way between the two ends, as it is at each moment (absolute ns)."""

    def up(self, at: int, size: int) -> Fate:
        """A segment that the client sends."""

    def down(self, at: int, size: int) -> Fate:
        """A segment that the server sends."""

    def listening(self, at: int) -> bool | None:
        """Whether the server takes connections: None is silence, False a RST."""

    def forgotten(self, at: int) -> bool:
        """Whether the server has dropped this connection (it answers with a RST)."""


@dataclass(slots=True)
class Played:
    """How a plan went."""

    segments: list[Segment] = field(default_factory=list)
    outcome: str = "ok"
    """ok, no-reply, refused, unreachable or lost."""
    done: int = 0
    """When the client's program knew, relative to the start."""
    quiet: int = 0
    """When the last segment that cannot be called back has arrived."""
    advance: tuple[int, int] = (0, 0)
    """How far the sequence numbers of client and server moved."""
    cwnd: tuple[int, int] = (10, 10)
    last_sent: tuple[int, int] = (BEFORE, BEFORE)
    """When each side last sent something that arrived; `BEFORE` if nothing did."""
    timers: tuple[Timer, Timer] | None = None
    used: bool = False
    """Whether the delayed-ACK engines were: keep-alives and resets do not touch them."""
    acks: tuple[AckState, AckState] = FRESH
    """What they remember at the end."""
    acks_cut: tuple[AckState, AckState] = FRESH
    """The same if the client's delayed ACK is cut off."""
    acks_rested: tuple[AckState, AckState] = FRESH
    """The same from `rests` on."""
    rests: int = 0
    """From when on the connection has paused long enough for its ACKs to be quick again."""
    acknowledged: bool = True
    """Whether all that the client sent was acknowledged in the end."""
    counts: tuple[int, int] = (0, 0)
    """Segments that each side sent (each took an IP id)."""
    unreachable: list[tuple[int, Segment, int]] = field(default_factory=list)
    """ICMP errors: when, about which segment, and the how-many-th of the client's it was."""


def keepalive(lan: int, wan: int, *, answered: bool) -> Played:
    """Return a keep-alive probe and its answer (RFC 9293 §3.8.4), in nanoseconds from the probe."""
    there = lan + wan
    played = Played(counts=(1, int(answered)), quiet=2 * there if answered else 0, acknowledged=answered)
    played.segments.append(Segment(lan, CLIENT, ACK, -1, 0, 0, 0, 0, BEFORE, False))
    if answered:
        played.segments.append(Segment(lan + 2 * wan, SERVER, ACK, 0, 0, 0, 0, there, 0, False))
        played.last_sent = (0, there)
    return played


def reset(lan: int) -> Played:
    """Return the segment with which a client drops a connection."""
    played = Played(counts=(1, 0))
    played.segments.append(Segment(lan, CLIENT, RST | ACK, 0, 0, 0, 0, 0, BEFORE, False))
    return played


class Steady:
    """A path on which nothing changes and nothing is lost."""

    __slots__ = ("lan", "pace", "pipe_free", "wan_down", "wan_up")

    def __init__(self, lan: int, wan_up: int, wan_down: int, pace: int = 0) -> None:
        self.lan, self.wan_up, self.wan_down = lan, wan_up, wan_down
        self.pace = pace
        """Bottleneck downwards, ns per byte times 1000; 0 is none."""
        self.pipe_free = 0

    def up(self, at: int, size: int) -> Fate:
        return Fate(at + self.lan, at + self.lan + self.wan_up)

    def down(self, at: int, size: int) -> Fate:
        if self.pace:
            self.pipe_free = max(at, self.pipe_free) + size * self.pace // 1000
            at = self.pipe_free
        return Fate(at + self.wan_down, at + self.wan_down + self.lan)

    def listening(self, at: int) -> bool | None:
        return True

    def forgotten(self, at: int) -> bool:
        return False
