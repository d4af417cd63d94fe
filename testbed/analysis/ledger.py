"""The tables with their devices, protocols and states: what every analysis adds up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.order import by_number, extent, group_rows, key_sums, sums_at
from testbed.analysis.tables import BY_DST
from testbed.capture import frame as f
from testbed.capture.frame import APPLICATION_OF_SERVICE, APPLICATIONS, EVIDENCE, TRANSPORTS
from testbed.capture.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.analysis.roles import Roles
    from testbed.analysis.run import State
    from testbed.analysis.tables import Tables

SENT, RECEIVED = 0, 1
DIRECTIONS = ("sent", "received")
BETWEEN = "between"
"""State of frames that lie in none."""

PORT, PAYLOAD = "port", "payload"
"""Rules by which a frame's application protocol is named."""

PROTOCOLS = (*APPLICATIONS, *TRANSPORTS)
"""Application protocols and then transports, as one list."""
_NO_APPLICATION = -1


@kernel
def add_traffic(
    sender: NDArray[np.int32],
    receiver: NDArray[np.int32],
    protocol: NDArray[np.int64],
    packets: NDArray[np.int64],
    size: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Add each key's traffic to ``out[device, protocol, direction, packets|bytes]`` of its two ends."""
    for i in range(len(protocol)):
        if protocol[i] >= 0:
            if sender[i] >= 0:
                out[sender[i], protocol[i], 0, 0] += packets[i]
                out[sender[i], protocol[i], 0, 1] += size[i]
            if receiver[i] >= 0:
                out[receiver[i], protocol[i], 1, 0] += packets[i]
                out[receiver[i], protocol[i], 1, 1] += size[i]


@dataclass
class Ledger:
    """One row per key and per cell; device index ``len(roles.devices)`` is the router."""

    tables: Tables
    roles: Roles
    states: tuple[State, ...]
    begin_ns: int
    end_ns: int
    rule: str = PORT

    def __post_init__(self) -> None:
        self.keys = self.tables.keys
        self.cells = self.tables.cells
        self.sums = key_sums(self.cells, len(self.keys))
        """Totals of each key."""
        self.masks: dict[str, NDArray[np.bool_]] = {}
        """What `testbed.analysis.attempts` has found already."""
        self.by_port = self._applications_by_port()
        self.evidence = self._evidence()
        self.by_payload = self._applications_by_payload()
        self.application = self.by_payload if self.rule == PAYLOAD else self.by_port
        """Per key: index into `APPLICATIONS`, -1 for none."""
        self.transport = self.keys["transport"].astype(np.int64)
        self.protocol = np.where(self.application >= 0, self.application, self.transport + len(APPLICATIONS))
        """Per key: index into `PROTOCOLS`, the application where there is one."""

    @property
    def duration_s(self) -> float:
        """Length of the capture in seconds."""
        return max(0.0, (self.end_ns - self.begin_ns) / 1e9)

    @cached_property
    def extent(self) -> tuple[int, int]:
        """Numbers of the capture's first and last window, since 1970."""
        width = self.tables.window_ns
        first, last = self.begin_ns // width, (self.end_ns - 1) // width
        if len(self.cells):
            used = extent(self.cells)
            first, last = min(first, used[0]), max(last, used[1])
        return first, max(first, last)

    @property
    def first_window(self) -> int:
        """Number of the capture's first window, since 1970."""
        return self.extent[0]

    @property
    def windows(self) -> int:
        """How many windows the capture spans."""
        return self.extent[1] - self.extent[0] + 1

    def key_totals(
        self, cells: NDArray[np.void] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return packets and bytes of each key, over all or the given cells."""
        sums = self.sums if cells is None else key_sums(cells, len(self.keys))
        return sums.packets, sums.bytes

    def by_device(
        self, packets: NDArray[np.int64], size: NDArray[np.int64], protocol: NDArray[np.int64], count: int
    ) -> NDArray[np.int64]:
        """Return an array [device, protocol, direction, packets|bytes] of the keys' totals.

        A frame between two devices counts as sent by one and received by the other.
        """
        out = np.zeros((len(self.roles.devices) + 1, count, 2, 2), np.int64)
        add_traffic(self.sender(), self.roles.dst, protocol, packets, size, out)
        return out

    @cached_property
    def by_segment(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cells in order of their segment, and where each segment's begin in that order."""
        return by_number(self.cells["segment"].astype(np.int64), len(self.tables.boundaries) + 1)

    def sender(self) -> NDArray[np.int32]:
        """Return, per key, the device that sent it; the router for what is its own."""
        return self._sender

    @cached_property
    def _sender(self) -> NDArray[np.int32]:
        own = self.roles.device == self.roles.router_index
        return np.where(own, self.roles.router_index, self.roles.src).astype(np.int32)

    def segments(self, state: State) -> tuple[int, int]:
        """Return the cells' segments that a state covers, as a half-open range."""
        bounds = self.tables.boundaries
        first = int(np.searchsorted(bounds, state.begin_ns, side="right"))
        last = int(np.searchsorted(bounds, state.end_ns, side="right"))
        return first, last

    def in_state(self, state: State) -> NDArray[np.int64]:
        """Return which cells lie in a state (and, in one that concerns one device, are that device's)."""
        first, last = self.segments(state)
        order, starts = self.by_segment
        chosen = order[starts[first] : starts[last]]
        if state.device is not None:
            names = [device.name for device in self.roles.devices]
            which = names.index(state.device) if state.device in names else -2
            chosen = chosen[self.roles.device[self.cells["key"][chosen]] == which]
        return chosen

    def between(self) -> NDArray[np.bool_]:
        """Return which cells lie in no state."""
        chosen = np.ones(len(self.cells), bool)
        for state in self.states:
            chosen[self.in_state(state)] = False
        return chosen

    def _applications_by_port(self) -> NDArray[np.int64]:
        table = np.full(len(f.SERVICES), _NO_APPLICATION)
        for service, name in APPLICATION_OF_SERVICE.items():
            table[service] = APPLICATIONS.index(name)
        return np.asarray(table[self.keys["service"]])

    def server_end(self) -> tuple[NDArray[np.int64], ...]:
        """Return columns hi, lo, port, transport of the end that serves, per key."""
        keys = self.keys
        src_serves = keys["role"] == BY_DST
        return (
            np.where(src_serves, keys["sip_hi"], keys["dip_hi"]),
            np.where(src_serves, keys["sip_lo"], keys["dip_lo"]),
            keys["port"].astype(np.int64),
            keys["transport"].astype(np.int64),
        )

    def _evidence(self) -> NDArray[np.int64]:
        """Return, per key, what the payloads of its server's port are (index into `EVIDENCE`)."""
        votes = self.tables.votes[: len(self.keys)]
        out = np.zeros(len(self.keys), np.int64)
        if not votes.any():
            return out
        group, first = group_rows(*self.server_end())
        sums = np.zeros((len(first), len(EVIDENCE)), np.int64)
        for i in range(1, len(EVIDENCE)):
            sums[:, i] = sums_at(group, votes[:, i], len(first))
        best = sums.argmax(axis=1)
        best[sums.max(axis=1) == 0] = 0
        verdict: NDArray[np.int64] = best[group]
        verdict[(self.transport_of_keys() != f.TCP) & (self.transport_of_keys() != f.UDP)] = 0
        return verdict

    def transport_of_keys(self) -> NDArray[np.int64]:
        return self.keys["transport"].astype(np.int64)

    def _applications_by_payload(self) -> NDArray[np.int64]:
        """Return the application that the payloads tell, the port's where they tell nothing.

        TLS takes the name of the protocol whose port it runs on, elsewhere HTTPS.
        """
        named = np.full(len(EVIDENCE), _NO_APPLICATION)
        for i, text in enumerate(EVIDENCE):
            if text in APPLICATIONS:
                named[i] = APPLICATIONS.index(text)
        out = np.where(self.evidence > 0, named[self.evidence], self.by_port)
        secured = (f.MQTTS, f.GCM, f.WEAVE, f.HTTPS)
        tls = self.evidence == EVIDENCE.index("TLS")
        own_port = np.isin(self.keys["service"], secured)
        out = np.where(tls & own_port, self.by_port, out)
        out = np.where(tls & ~own_port, APPLICATIONS.index("HTTPS"), out)
        return np.asarray(out, np.int64)
