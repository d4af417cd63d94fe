"""A Mininet host on carried links: what its kernel sends and receives goes through here.

Every frame that leaves or reaches a host passes an `Interface`. Under the virtual clock the timers
of TCP and ARP are kept there (`TcpTimers`, `Neighbours`). After each thing done to a host its
interfaces are looked at (`Station.look`), which takes whatever the kernel answered with at once;
so a frame that a poll finds later was sent by a timer of the kernel, and is called *spontaneous*.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from testbed.emulation import frames
from testbed.emulation.loop import NS
from testbed.emulation.namespaces import Namespace, Tap
from testbed.emulation.neighbours import Neighbours, frozen_timers
from testbed.emulation.netlink import (
    RTAX_ADVMSS,
    RTAX_INITCWND,
    RTAX_INITRWND,
    RTAX_RTO_MIN,
    RTAX_WINDOW,
    Netlink,
)
from testbed.emulation.tcp_timers import TcpTimers
from testbed.kernel.neighbours import BASE_REACHABLE_S, Lifetimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.loop import Loop
    from testbed.models.device import TcpStack

_RTO_MIN_MS = 100_000
"""Least retransmission time of kernel TCP under the virtual clock: longer than any run waits."""

_COMMON = {
    "net.ipv6.conf.all.disable_ipv6": 1,
    "net.ipv6.conf.default.disable_ipv6": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.ping_group_range": "0 2147483647",
    "net.ipv4.tcp_no_metrics_save": 1,
    "net.ipv4.igmp_link_local_mcast_reports": 0,
}
_VIRTUAL = {
    "net.ipv4.tcp_early_retrans": 0,  # tail loss probes run on a kernel timer
    "net.ipv4.tcp_recovery": 0,  # so does RACK's reordering window
    "net.ipv4.tcp_autocorking": 0,
    "net.ipv4.tcp_moderate_rcvbuf": 0,  # tunes the window by round trips in real time
    "net.ipv4.tcp_slow_start_after_idle": 0,
    "net.ipv4.tcp_congestion_control": "reno",  # cubic grows its window by real time
    "net.ipv4.tcp_max_tw_buckets": 0,  # TIME_WAIT would last a virtual day; ports are given out anew
    "net.ipv4.tcp_invalid_ratelimit": 0,
    "net.ipv4.tcp_challenge_ack_limit": 2147483647,
    "net.ipv4.icmp_ratemask": 0,  # the limit is kept by the loop
}


class Interface:
    """One interface of a host and the link it hangs on."""

    def __init__(self, station: Station, name: str, mac: str, tap: Tap) -> None:
        self.station = station
        self.name = name
        self.mac = frames.mac_bytes(mac)
        self.tap = tap
        self.neighbours: Neighbours | None = None
        self.cable: Callable[[bytes], None] = _unplugged
        """Takes each frame that the host sends."""
        self.igmp_expected = 0
        """IGMP messages that a program is about to send; what the kernel reports itself is dropped."""
        self.limit_error: Callable[[bytes], bool] | None = None
        """Says whether an ICMP message that the kernel makes may go out."""

    def receive(self, frame: bytes) -> None:
        """Let the host receive a frame, and send on whatever it answers with."""
        station = self.station
        ethertype, protocol = frames.kind(frame)
        conn = None
        if ethertype == frames.ARP:
            if self.neighbours is not None:
                self.neighbours.arriving(frame)
        elif protocol == frames.TCP and station.tcp is not None:
            conn = station.tcp.arriving(frame)
            if station.tcp.progressed and self.neighbours is not None:
                self.neighbours.confirmed(frame[6:12])
        elif protocol == frames.ICMP and station.tcp is not None:
            quoted = frames.unreachable_segment(frame)
            if quoted is not None:
                station.tcp.unreachable(quoted)
        self.tap.write(frame)
        station.look()
        if conn is not None and station.tcp is not None:
            station.tcp.arrived(conn)

    def look(self, spontaneous: bool = False) -> None:
        """Send on what the kernel has put out."""
        for frame in self.tap.read():
            passed = self._passed(frame, spontaneous and not self.station.real)
            if passed is not None:
                self.cable(passed)

    def _passed(self, frame: bytes, spontaneous: bool) -> bytes | None:
        ethertype, protocol = frames.kind(frame)
        if ethertype == frames.ARP:
            if self.neighbours is not None and not self.neighbours.outgoing_arp(frame, spontaneous):
                return None
            return frame
        if ethertype != frames.IPV4:
            return None  # IPv6 does not exist here
        if protocol == frames.IGMP:
            if self.igmp_expected == 0:
                return None
            self.igmp_expected -= 1
        elif protocol == frames.ICMP and self.limit_error is not None and not self.limit_error(frame):
            return None
        if self.neighbours is not None:
            self.neighbours.outgoing_ip(frame[:6])
        if protocol == frames.TCP and self.station.tcp is not None:
            return self.station.tcp.outgoing(frame, spontaneous)
        return frame


def _unplugged(frame: bytes) -> None:
    """Lose a frame: no cable."""


class Station:
    """A Mininet host: its namespace, its interfaces and its kernel's timers."""

    def __init__(self, loop: Loop, name: str, pid: int) -> None:
        """Take over the host whose shell is process `pid`."""
        self.loop = loop
        self.name = name
        self.real = loop.real
        self.namespace = Namespace(pid)
        self.netlink = Netlink(self.namespace)
        self.interfaces: dict[str, Interface] = {}
        self.tcp: TcpTimers | None = None
        self.stack_metrics: dict[int, int] = {}
        self.namespace.settings(_COMMON if loop.real else {**_COMMON, **_VIRTUAL})
        self.netlink.up("lo")

    @property
    def route_metrics(self) -> dict[int, int]:
        """What this host's routes say about TCP over them."""
        return dict(self.stack_metrics) if self.real else {**self.stack_metrics, RTAX_RTO_MIN: _RTO_MIN_MS}

    def use_stack(self, stack: TcpStack, ttl: int) -> None:
        """Make the kernel's TCP and IP that of a device: options, windows, retries, TTL."""
        scale = stack.window_scale
        largest = (1 << (16 + (scale if scale is not None else 0))) - 1
        self.namespace.settings(
            {
                "net.ipv4.ip_default_ttl": ttl,
                "net.ipv4.tcp_timestamps": int(stack.timestamps),
                "net.ipv4.tcp_sack": int(stack.sack),
                "net.ipv4.tcp_window_scaling": int(scale is not None),
                "net.ipv4.tcp_rmem": "4096 131072 6291456",
                "net.ipv4.tcp_syn_retries": stack.syn_retries,
                "net.ipv4.tcp_retries2": stack.data_retries,
            }
        )
        self.stack_metrics = {
            RTAX_WINDOW: largest,  # the scale follows from the largest window there can be
            RTAX_ADVMSS: stack.mss,
            RTAX_INITCWND: stack.initial_window,
            RTAX_INITRWND: max(2, round(stack.window / stack.mss)),
        }

    def attach(
        self,
        name: str,
        mac: str,
        tap: Tap,
        draw: Callable[[int], float],
        reachable_s: float = BASE_REACHABLE_S,
    ) -> Interface:
        """Take over an interface that exists, switch it on and keep its ARP timers.

        `reachable_s` is the mean lifetime of what it knows of its neighbours, `draw` what varies it
        (see `testbed.kernel.neighbours.Lifetimes`).
        """
        interface = Interface(self, name, mac, tap)
        self.netlink.set_mac(name, mac)
        if self.real:
            self.namespace.settings(
                {f"net.ipv4.neigh.{name}.base_reachable_time_ms": round(reachable_s * 1000)}
            )
        else:
            self.namespace.settings(frozen_timers(name))
            interface.neighbours = Neighbours(
                self.loop,
                self.netlink,
                name,
                interface.mac,
                lambda frame: interface.cable(frame),
                self.look,
                Lifetimes(round(reachable_s * NS), draw),
            )
        self.netlink.up(name)
        self.interfaces[name] = interface
        self.loop.watch(tap.fd, lambda: interface.look(spontaneous=True))
        return interface

    def keep_tcp_timers(self, stack: TcpStack, interface: Interface) -> None:
        """Keep this host's TCP timers under the virtual clock; they send over `interface`."""
        if not self.real:
            self.tcp = TcpTimers(self.loop, stack, lambda frame: interface.cable(frame))

    def look(self) -> None:
        """Send on what the kernel has put out on any interface, as the answer to what was just done."""
        for interface in self.interfaces.values():
            interface.look()

    def socket(self, kind: int, protocol: int = 0, family: int = socket.AF_INET) -> socket.socket:
        """Open a socket of this host that never blocks."""
        opened = self.namespace.call(lambda: socket.socket(family, kind, protocol))
        opened.setblocking(False)
        return opened

    def close(self) -> None:
        """Let the host go."""
        for interface in self.interfaces.values():
            self.loop.forget(interface.tap.fd)
            interface.tap.close()
        self.netlink.close()
        self.namespace.close()
