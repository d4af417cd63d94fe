"""The network's state at each moment: uplink, outages, loss, delay, and the saturated WAN.

Rules of this file:
- The state at any moment is known from the timeline, so the fate of a packet can be told when it
  is sent. `Conditions.calm` says whether nothing out of the ordinary touches an exchange: then its
  course depends on the delays alone.
- A rate limit is a token bucket: traffic below its burst passes undelayed, so that devices which
  do not fill the link do not see each other.
- Chance on a device's way (loss, jitter) comes from the device's own streams.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.simulation.node import NEVER
from testbed.simulation.plans import Fate

if TYPE_CHECKING:
    from testbed.host import Service
    from testbed.models.topology import Impairment
    from testbed.scenario.timeline import Impaired, Outage, Timeline
    from testbed.simulation.connection import Connection
    from testbed.simulation.node import Node


@dataclass(eq=False, slots=True)
class Server:
    """An address of the fake Internet (or the router, or a device that serves others)."""

    name: str
    address: str
    ip: int
    delay_ns: int
    """One-way delay beyond the router."""
    ttl: int
    """TTL of its packets on the LAN."""
    ports: dict[int, Service] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    station: Node | None = None
    """The device, when it is one of the LAN."""
    mac_int: int = 0
    """Ethernet source of its packets on the LAN (the router's for all of the Internet)."""
    host_name: str = "localhost"
    """Name in its certificate when the client does not say whom it wants."""


class Bucket:
    """A token bucket that may run into debt: the debt is the queue."""

    __slots__ = ("at", "burst", "bytes_per_ns", "queue_ns", "tokens")

    def __init__(self, link: Impairment) -> None:
        assert link.rate is not None
        self.bytes_per_ns = link.rate / 8e9
        self.burst = float(link.burst)
        self.tokens = self.burst
        self.queue_ns = round(link.queue * 1e9)
        self.at = -NEVER

    def _fill(self, at: int) -> float:
        """Let the tokens come in that are due by then; return how many there are."""
        passed = at - self.at
        if passed <= 0:
            return self.tokens
        self.at = at
        tokens = self.tokens + passed * self.bytes_per_ns
        if tokens > self.burst:
            tokens = self.burst
        self.tokens = tokens
        return tokens

    def wait(self, at: int) -> int:
        """Return how long a packet sent now would queue, ns."""
        tokens = self._fill(at)
        return 0 if tokens >= 0 else round(-tokens / self.bytes_per_ns)

    def room(self, at: int, size: int) -> bool:
        """Tell whether `size` bytes pass without waiting; take them if so."""
        tokens = self.tokens
        if at > self.at:  # as `_fill`, which a packet has no time to call
            tokens += (at - self.at) * self.bytes_per_ns
            if tokens > self.burst:
                tokens = self.burst
            self.at, self.tokens = at, tokens
        if tokens < size:
            return False
        self.tokens = tokens - size
        return True

    def take(self, at: int, size: int) -> int | None:
        """Take a packet's tokens; return its wait in ns, or None when the queue is full."""
        tokens = self.tokens
        if at > self.at:  # as `_fill`
            tokens += (at - self.at) * self.bytes_per_ns
            if tokens > self.burst:
                tokens = self.burst
            self.at, self.tokens = at, tokens
        wait = 0 if tokens >= 0 else round(-tokens / self.bytes_per_ns)
        if wait > self.queue_ns:
            return None
        self.tokens = tokens - size
        return wait

    def owe(self, at: int, size: int) -> None:
        """Take tokens whether or not they are there (a bulk transfer paced by its window)."""
        self._fill(at)
        self.tokens -= size


class Conditions:
    """Answers what becomes of a packet at a moment."""

    def __init__(self, timeline: Timeline, wan: Impairment) -> None:
        self.timeline = timeline
        self.wan = wan
        self.changes = timeline.changes()
        self.changed = self.next_change = self._well_until = -NEVER
        self.uplink = "up"
        self.lan = True
        self.disturbed = False
        self.up_bucket = Bucket(wan) if wan.rate else None
        self.down_bucket = Bucket(wan) if wan.rate else None
        self._span_buckets: dict[int, tuple[Bucket, Bucket]] = {
            index: (Bucket(span.link), Bucket(span.link))
            for index, span in enumerate(timeline.impaired)
            if span.link.rate
        }
        self.wan_ns = round(wan.delay * 1e9)
        self.jitter_steps = max(0, round(wan.jitter * 1e9 / 250_000))
        self._cursor = 0

    def advance(self, now: int) -> None:
        """Bring the present state up to `now`; called whenever something may have changed."""
        while self._cursor < len(self.changes) and self.changes[self._cursor] <= now:
            self._cursor += 1
        self.changed = self.changes[self._cursor - 1] if self._cursor else -NEVER
        self.next_change = self.changes[self._cursor] if self._cursor < len(self.changes) else NEVER
        self.uplink = self.timeline.uplink.at(now)
        self.lan = self.timeline.lan.at(now)
        spans: list[Outage | Impaired] = [*self.timeline.outages, *self.timeline.impaired]
        self.disturbed = bool(self.wan.loss) or any(span.begin <= now < span.end for span in spans)
        well = self.uplink == "up" and self.lan and not self.disturbed
        self._well_until = self.next_change if well else -NEVER

    def well_until(self, now: int) -> int:
        """Return until when LAN and WAN stay up and undisturbed; a moment long past if they are not now."""
        if now >= self.next_change:
            self.advance(now)
        return self._well_until

    def calm(self, now: int) -> bool:
        """Tell whether the WAN is up and undisturbed now; it stays so until `next_change`."""
        if now >= self.next_change:
            self.advance(now)
        return self.uplink == "up" and not self.disturbed

    def jitter_ns(self, node: Node) -> int:
        """Draw the extra one-way delay of an exchange, in steps of 0.25 ms."""
        steps = self.jitter_steps
        return int(node.rng.random() * (steps + 1)) * 250_000 if steps else 0

    def lan_up(self, at: int) -> bool:
        """Tell whether the router's LAN side runs."""
        if self.changed <= at < self.next_change:
            return self.lan
        return self.timeline.lan.at(at)

    def uplink_at(self, at: int) -> str:
        """Return the uplink's state at a moment (see `Timeline.uplink`)."""
        if self.changed <= at < self.next_change:
            return self.uplink
        return self.timeline.uplink.at(at)

    def down(self, server: Server, at: int) -> str | None:
        """Return None when the server answers, else `silent` or `refused`."""
        for outage in self.timeline.outages:
            named = outage.service == server.name or outage.service in server.kinds
            if named and outage.begin <= at < outage.end:
                return "refused" if outage.refused else "silent"
        return None

    def access(self, node: Node, at: int, size: int, *, upwards: bool) -> tuple[bool, int]:
        """Return whether a frame on the device's access link is lost, and its extra delay in ns."""
        if self.changed <= at < self.next_change and not self.disturbed:
            return False, 0
        extra = self._impaired(node, at, size, node.name, upwards=upwards)
        return extra is None, extra or 0

    def cross(self, node: Node, at: int, size: int, upwards: bool) -> int | None:
        """Return the extra delay (ns) of a packet that crosses the WAN now, None when it is lost."""
        bucket = self.up_bucket if upwards else self.down_bucket
        if self.changed <= at < self.next_change and not self.disturbed:
            return bucket.take(at, size) if bucket is not None else 0
        if self.wan.loss and node.loss_rng.random() < self.wan.loss:
            return None
        wait = bucket.take(at, size) if bucket is not None else 0
        if wait is None:
            return None
        extra = self._impaired(node, at, size, None, upwards=upwards)
        return None if extra is None else wait + extra

    def _impaired(self, node: Node, at: int, size: int, link: str | None, *, upwards: bool) -> int | None:
        """Return the extra delay (ns) on an impaired link (a device's, or the WAN), None when lost there."""
        extra = 0
        for index, span in enumerate(self.timeline.impaired):
            if span.device != link or not span.begin <= at < span.end:
                continue
            if span.link.loss and node.loss_rng.random() < span.link.loss:
                return None
            extra += round(span.link.delay * 1e9)
            if span.link.jitter:
                extra += round(node.loss_rng.random() * span.link.jitter * 1e9)
            if index in self._span_buckets:
                wait = self._span_buckets[index][0 if upwards else 1].take(at, size)
                if wait is None:
                    return None
                extra += wait
        return extra


class LivePath:
    """The way of one connection while something may be wrong (see `testbed.simulation.tcp.Path`)."""

    def __init__(
        self, conditions: Conditions, node: Node, server: Server, port: int, stream: Connection
    ) -> None:
        self.conditions, self.node, self.server, self.port = conditions, node, server, port
        self.stream = stream
        self.next_hop = stream.network.next_hop
        self.lan = node.lan_ns + (server.station.lan_ns if server.station else 0)
        self.remote = server.delay_ns + conditions.wan_ns + stream.jitter_ns if server.delay_ns else 0
        self.elsewhere = node.link == "open"

    def _alive(self, at: int) -> bool:
        """Whether the device's access link carries a frame."""
        return self.elsewhere or self.conditions.lan_up(at)

    def _home(self, at: int) -> bool:
        """Whether a server that is a device of the home is there."""
        station = self.server.station
        return station is None or self.conditions.timeline.link[station.name].at(at) == "home"

    def up(self, at: int, size: int) -> Fate:
        lost, extra = self.conditions.access(self.node, at, size, upwards=True)
        seen = at + self.lan + extra
        if lost or not self._alive(seen):
            return Fate(None, None)
        if not self.remote or self.elsewhere:
            arrives = seen + self.remote
            return Fate(seen, arrives if self._home(arrives) else None)
        if self.conditions.uplink_at(seen) != "up":
            error = self.next_hop.error_at(self.node, seen)
            return Fate(seen, None, error + self.lan if error is not None else None)
        wait = self.conditions.cross(self.node, seen, size, upwards=True)
        if wait is None or self.conditions.down(self.server, seen) == "silent":
            return Fate(seen, None)
        return Fate(seen, seen + self.remote + wait)

    def down(self, at: int, size: int) -> Fate:
        if not self._home(at):
            return Fate(None, None)
        seen = at
        if self.remote and not self.elsewhere:
            if self.conditions.uplink_at(at + self.remote) != "up":
                return Fate(None, None)
            wait = self.conditions.cross(self.node, at, size, upwards=False)
            if wait is None:
                return Fate(None, None)
            seen = at + wait
        seen += self.remote
        lost, extra = self.conditions.access(self.node, seen, size, upwards=False)
        if not self._alive(seen):
            return Fate(None, None)
        return Fate(seen, None if lost else seen + extra + self.lan)

    def listening(self, at: int) -> bool | None:
        how = self.conditions.down(self.server, at)
        if how is not None:
            return None if how == "silent" else False
        return self.port in self.server.ports if self.server.ports else None

    def forgotten(self, at: int) -> bool:
        return self.stream.forgotten(at)
