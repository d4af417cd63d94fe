"""The ARP timers of one interface, kept by the loop's clock instead of the kernel's.

The kernel resolves, answers and keeps its table as always, but its entries never age by
themselves: the interface's timers are set beyond any run. What its state machine (Linux
net/core/neighbour.c; RFC 1122 §2.3.2.1) would do in time, this does in virtual time: ask again
each second, three times, then fail; refresh an entry that is in use and was not confirmed for its
lifetime (`testbed.kernel.neighbours`) by up to three unicast questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from socket import inet_ntoa
from typing import TYPE_CHECKING

from testbed.emulation import frames
from testbed.emulation.netlink import NUD_FAILED
from testbed.kernel.neighbours import PROBE_AFTER_NS, PROBES, RETRY_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.loop import Loop, Timer
    from testbed.emulation.netlink import Netlink
    from testbed.kernel.neighbours import Lifetimes

_NEVER_MS = 2_000_000_000

RESOLVING, FRESH, DELAYED, PROBING = range(4)


def frozen_timers(interface: str) -> dict[str, object]:
    """Return the kernel settings that stop an interface's own ARP timers."""
    base = f"net.ipv4.neigh.{interface}."
    return {
        base + "base_reachable_time_ms": _NEVER_MS,
        base + "retrans_time_ms": _NEVER_MS // 4,
        base + "delay_first_probe_time": _NEVER_MS // 4000,
        base + "gc_stale_time": _NEVER_MS // 4000,
    }


@dataclass(slots=True)
class _Neighbour:
    address: str
    state: int
    mac: bytes = b""
    good_until_ns: int = 0
    probes: int = 0
    question: bytes = b""
    timer: Timer | None = None


class Neighbours:
    """What one interface knows of the stations on its link, aged by the loop's clock."""

    def __init__(
        self,
        loop: Loop,
        netlink: Netlink,
        interface: str,
        mac: bytes,
        send: Callable[[bytes], None],
        failed: Callable[[], None],
        lifetimes: Lifetimes,
    ) -> None:
        """Keep the entries' time; `lifetimes` says how long confirmations hold.

        `send` puts a frame on the link; `failed` is called after the kernel was
        told of a failure.
        """
        self._loop = loop
        self._netlink = netlink
        self._interface = interface
        self._mac = mac
        self._send = send
        self._failed = failed
        self._lifetimes = lifetimes
        self._known: dict[str, _Neighbour] = {}
        self._by_mac: dict[bytes, _Neighbour] = {}
        self.address = "0.0.0.0"
        """The interface's own address, which questions are asked from."""

    def forget_all(self) -> None:
        """Forget everything; the kernel's own table empties with its address."""
        for neighbour in self._known.values():
            self._set_timer(neighbour, None)
            if neighbour.state != RESOLVING:
                self._netlink.set_neighbour(self._interface, neighbour.address, NUD_FAILED)
        self._known.clear()
        self._by_mac.clear()

    def outgoing_arp(self, frame: bytes, spontaneous: bool) -> bool:
        """Take an ARP frame of the kernel; return whether it may go on the link."""
        operation, _, _, target = frames.arp_fields(frame)
        if operation != 1:
            return True
        if spontaneous:
            return False
        address = inet_ntoa(target)
        neighbour = self._known.get(address)
        if neighbour is None or neighbour.state != RESOLVING:
            neighbour = self._known[address] = _Neighbour(address, RESOLVING)
        neighbour.question = frame
        neighbour.probes = 1
        self._set_timer(neighbour, self._loop.now_ns + RETRY_NS)
        return True

    def outgoing_ip(self, target_mac: bytes) -> None:
        """Note that an entry is used: one that is old, or nearly so, gets refreshed soon."""
        neighbour = self._by_mac.get(target_mac)
        now_ns = self._loop.now_ns
        if (
            neighbour is not None
            and neighbour.state == FRESH
            and now_ns > neighbour.good_until_ns - PROBE_AFTER_NS
        ):
            neighbour.state = DELAYED
            self._set_timer(neighbour, max(now_ns, neighbour.good_until_ns) + PROBE_AFTER_NS)

    def confirmed(self, source_mac: bytes) -> None:
        """Note that TCP made progress: the neighbour it came through is there (RFC 1122 §2.3.2.1)."""
        neighbour = self._by_mac.get(source_mac)
        if neighbour is not None and neighbour.state != RESOLVING:
            self._is_reachable(neighbour)

    def arriving(self, frame: bytes) -> None:
        """Take an ARP frame before the kernel gets it."""
        operation, mac, sender, target = frames.arp_fields(frame)
        if inet_ntoa(target) != self.address or sender == b"\0\0\0\0":
            return
        address = inet_ntoa(sender)
        neighbour = self._known.get(address)
        if operation == 2:
            if neighbour is not None:
                self._learn(neighbour, mac)
                self._is_reachable(neighbour)
        elif neighbour is None or neighbour.state == RESOLVING:
            # A question for us tells where the asker is; the kernel takes the entry as stale.
            if neighbour is None:
                neighbour = self._known[address] = _Neighbour(address, FRESH)
            self._set_timer(neighbour, None)
            neighbour.state = FRESH
            self._learn(neighbour, mac)
            neighbour.good_until_ns = self._loop.now_ns

    def _learn(self, neighbour: _Neighbour, mac: bytes) -> None:
        neighbour.mac = mac
        self._by_mac[mac] = neighbour

    def _is_reachable(self, neighbour: _Neighbour) -> None:
        neighbour.state = FRESH
        neighbour.good_until_ns = self._loop.now_ns + self._lifetimes.at(self._loop.now_ns)
        if neighbour.timer is not None:
            self._set_timer(neighbour, None)

    def _set_timer(self, neighbour: _Neighbour, when_ns: int | None) -> None:
        if neighbour.timer is not None:
            neighbour.timer.cancel()
        neighbour.timer = None
        if when_ns is not None:
            neighbour.timer = self._loop.call_at(when_ns, lambda: self._due(neighbour))

    def _due(self, neighbour: _Neighbour) -> None:
        neighbour.timer = None
        if neighbour.state == DELAYED:
            neighbour.state, neighbour.probes = PROBING, 0
            neighbour.question = frames.arp_request(
                self._mac, self.address, neighbour.address, to=neighbour.mac
            )
        if neighbour.probes < PROBES:
            neighbour.probes += 1
            self._set_timer(neighbour, self._loop.now_ns + RETRY_NS)
            self._send(neighbour.question)
            return
        self._known.pop(neighbour.address, None)
        self._by_mac.pop(neighbour.mac, None)
        self._netlink.set_neighbour(self._interface, neighbour.address, NUD_FAILED)
        self._failed()
