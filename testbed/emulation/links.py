"""What the carried links do to frames: delay, loss, rate, and the state of their cables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.emulation.loop import NS

if TYPE_CHECKING:
    from random import Random

    from testbed.models.topology import Impairment

UP, DOWN = 0, 1
"""Directions: towards the Internet, towards the device."""


class Bucket:
    """A token bucket that may run into debt: the debt is the queue."""

    def __init__(self, link: Impairment) -> None:
        assert link.rate is not None
        self._bytes_per_ns = link.rate / 8e9
        self._burst = float(link.burst)
        self._tokens = self._burst
        self._queue_ns = round(link.queue * NS)
        self._at_ns: int | None = None

    def wait_ns(self, now_ns: int, size: int) -> int | None:
        """Take a frame's tokens; return how long it waits, or None when the queue is full."""
        if self._at_ns is not None:
            gained = (now_ns - self._at_ns) * self._bytes_per_ns
            self._tokens = min(self._burst, self._tokens + gained)
        self._at_ns = now_ns
        wait_ns = 0 if self._tokens >= 0 else round(-self._tokens / self._bytes_per_ns)
        if wait_ns > self._queue_ns:
            return None
        self._tokens -= size
        return wait_ns


class Way:
    """The impairments on one link at present; frames of one direction never overtake each other."""

    def __init__(self, base: Impairment | None, rng: Random) -> None:
        self._rng = rng
        self._links: list[tuple[Impairment, tuple[Bucket, Bucket] | None]] = []
        self._last_ns = [0, 0]
        if base is not None:
            self.add(base)

    def add(self, link: Impairment) -> None:
        """Impair the link further."""
        self._links.append((link, (Bucket(link), Bucket(link)) if link.rate else None))

    def remove(self, link: Impairment) -> None:
        """End an impairment."""
        index = next(number for number, (known, _) in enumerate(self._links) if known is link)
        del self._links[index]

    def arrival_ns(self, now_ns: int, delay_ns: int, size: int, direction: int) -> int | None:
        """Return when a frame sent now gets through `delay_ns` of way, None if it is lost."""
        when_ns = now_ns + delay_ns
        for link, buckets in self._links:
            if link.loss and self._rng.random() < link.loss:
                return None
            when_ns += round(link.delay * NS)
            if link.jitter:
                when_ns += round(self._rng.random() * link.jitter * NS)
            if buckets is not None:
                wait_ns = buckets[direction].wait_ns(now_ns, size)
                if wait_ns is None:
                    return None
                when_ns += wait_ns
        return when_ns

    def in_order_ns(self, when_ns: int, direction: int) -> int:
        """Return `when_ns`, or the last frame's time if that is later."""
        self._last_ns[direction] = max(self._last_ns[direction], when_ns)
        return self._last_ns[direction]
