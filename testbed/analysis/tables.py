"""The tables that a capture is reduced to: who spoke to whom (keys), how much and when (cells,
events), and what names and addresses were seen (facts).

They are small whatever the capture's size, and every analysis works on them alone. All times are
Unix nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis.order import by_number, merge_cells
from testbed.capture.frame import EVIDENCE, REASONS, SERVICES, TRANSPORTS, port_tables
from testbed.capture.payload import NAME_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_NS = 900 * 10**9
"""The paper's window: 15 minutes."""

KEY = np.dtype(
    [
        ("hash", "i8"),
        ("src", "i8"),
        ("dst", "i8"),
        ("sip_hi", "i8"),
        ("sip_lo", "i8"),
        ("dip_hi", "i8"),
        ("dip_lo", "i8"),
        ("last_ns", "i8"),  # of the last frame
        ("event_ns", "i8"),  # of the last event
        ("name", "i4"),  # fact that names the remote end or what is asked; 0 none
        ("cell", "i4"),  # current cell, -1 none
        ("port", "u2"),  # the server's; the ethertype of what is not IP
        ("service", "u1"),
        ("transport", "u1"),
        ("kind", "u1"),  # see `KINDS`
        ("role", "u1"),  # see `ROLES`
    ],
    align=True,
)
"""One row for each sort of frame: same ends, direction, service, server port, name and kind."""

TCP_OTHER, TCP_SYN, TCP_ACCEPT, TCP_RESET, TCP_FIN, TCP_MQTT = 0, 1, 2, 3, 4, 16
"""Kinds of TCP frame; an MQTT packet is `TCP_MQTT` plus its type.

Other kinds: DNS and mDNS 0 for a query, else how it was answered (`testbed.capture.payload`);
DHCP the message type; ICMP, ICMPv6 and IGMP the type; ARP the operation; NTP the mode; SSDP 1
search, 2 notify, 3 answer.
"""

NOT_KNOWN, BY_SRC, BY_DST = range(3)
"""Roles: which end began the exchange."""

CELL = np.dtype(
    [
        ("key", "i4"),
        ("segment", "i4"),  # between which boundaries of states; 0 before the first
        ("window", "i8"),  # window_ns since 1970
        ("packets", "i8"),
        ("bytes", "i8"),
        ("first_ns", "i8"),
        ("last_ns", "i8"),
    ],
    align=True,
)
"""Traffic of one key in one window (and one segment); another cell may hold more of the same."""

EVENT = np.dtype([("time_ns", "i8"), ("key", "i4"), ("onward", "i4")], align=True)
"""A burst of a key begins (`onward` 0), or has lasted another `ONWARD_NS` (`onward` 1)."""
BURST_NS = 500_000_000
ONWARD_NS = 10 * 10**9

FACT = np.dtype(
    [
        ("hash", "i8"),
        ("subject", "i8"),  # MAC
        ("hi", "i8"),  # address
        ("lo", "i8"),
        ("first_ns", "i8"),
        ("last_ns", "i8"),
        ("count", "i8"),
        ("name", "i4"),  # fact of kind TEXT
        ("blob", "i4"),  # of a TEXT: where its bytes are
        ("size", "i4"),
        ("kind", "i4"),
    ],
    align=True,
)
"""Something that was seen in payloads, once, with its first and last time."""

(TEXT, DNS_ANSWER, SNI, HOST, DHCP_NAME, DHCP_VENDOR, DHCP_ADDRESS, DHCP_ROUTER, MDNS_NAME, ARP_ADDRESS) = (
    range(10)
)
"""Kinds of fact. DNS_ANSWER: subject was told that address is called name. SNI, HOST: subject
spoke to address as name. DHCP_*: of the client, but DHCP_ROUTER of the server. MDNS_NAME: subject
says that address is called name. ARP_ADDRESS: subject has address."""

CONNECTION = np.dtype(
    [
        ("hash", "i8"),
        ("last_ns", "i8"),
        ("name", "i4"),
        ("key_low", "i4"),
        ("key_high", "i4"),
        ("starter", "i4"),
    ],
    align=True,
)
"""A TCP or UDP connection that is followed: its name and who began it."""

MAX_KEYS = 1 << 18
SPARE_KEYS = 1 << 12
MAX_FACTS = 1 << 17
MAX_BLOB = 1 << 23
MAX_EVENTS = 1 << 23
FIRST_CELLS = 1 << 19
MAX_CELLS = 1 << 22
CONNECTION_SETS = 1 << 14
BINDING_SETS = 1 << 14
WAYS = 4

(N_KEYS, N_CELLS, N_EVENTS, N_FACTS, N_BLOB, SEGMENT, SLOT_FROM, SLOT_TO, SLOT_WINDOW, WINDOW,
 KEYS_FULL, EVENTS_FULL, FACTS_FULL, FIRST_NS, LAST_NS, BACKWARDS, FRAMES, PREVIOUS_NS, CUT,
 ABSURD) = range(20)  # fmt: skip
"""Slots of `Tables.state`."""


@dataclass
class Tables:
    """The tables of one capture; `view` parts hold only the rows in use."""

    boundaries: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Sorted times at which states begin or end; cells do not straddle them."""

    def __post_init__(self) -> None:
        self.state = np.zeros(32, np.int64)
        self.state[[N_KEYS, N_FACTS]] = 1, 1  # 0 means none
        self.state[WINDOW] = WINDOW_NS
        self.state[[FIRST_NS, LAST_NS]] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self.state[[SLOT_FROM, SLOT_TO]] = 1, 0
        self.all_keys = np.zeros(MAX_KEYS + SPARE_KEYS, KEY)
        self.key_index = np.zeros(MAX_KEYS * 4, np.int32)
        self.all_cells = np.empty(FIRST_CELLS, CELL)
        self.all_events = np.empty(MAX_EVENTS, EVENT)
        self.all_facts = np.zeros(MAX_FACTS, FACT)
        self.fact_index = np.zeros(MAX_FACTS * 4, np.int32)
        self.blob = np.empty(MAX_BLOB, np.uint8)
        self.connections = np.zeros((CONNECTION_SETS, WAYS), CONNECTION)
        self.bindings = np.zeros((BINDING_SETS, WAYS), CONNECTION)
        self.votes = np.zeros((MAX_KEYS + SPARE_KEYS, len(EVIDENCE)), np.int32)
        self.reasons = np.zeros((len(REASONS), 2), np.int64)
        self.scratch = np.zeros(NAME_BYTES + 8, np.uint8)
        self.ports = port_tables()[0]
        self.store = (self.state, self.all_facts, self.fact_index, self.blob, self.scratch, self.bindings)
        """The tables that `testbed.analysis.naming` fills."""

    @property
    def keys(self) -> NDArray[np.void]:
        """Keys in use; row 0 stands for none."""
        return self.all_keys[: self.state[N_KEYS]]

    @property
    def cells(self) -> NDArray[np.void]:
        return self.all_cells[: self.state[N_CELLS]]

    @property
    def events(self) -> NDArray[np.void]:
        return self.all_events[: self.state[N_EVENTS]]

    @property
    def facts(self) -> NDArray[np.void]:
        """Facts in use; row 0 stands for none."""
        return self.all_facts[: self.state[N_FACTS]]

    @property
    def window_ns(self) -> int:
        """Length of a cell's window; more than `WINDOW_NS` only for absurdly long captures."""
        return int(self.state[WINDOW])

    def text(self, fact: int) -> str:
        """Return a name by its fact, empty for 0."""
        if fact <= 0:
            return ""
        row = self.all_facts[fact]
        return (
            self.blob[row["blob"] : row["blob"] + row["size"]].tobytes().decode("ascii", "backslashreplace")
        )

    def compact(self) -> None:
        """Merge cells of the same key, segment and window, and order them; make room.

        When merging alone does not help, the log grows; beyond `MAX_CELLS` the windows get twice as
        long. That takes a year of a busy home, centuries of a quiet one, or hostile traffic.
        """
        while True:
            cells = self.cells
            merged = np.empty(len(cells), CELL)
            order, _ = by_number(cells["key"].astype(np.int64), int(self.state[N_KEYS]))
            count, is_sorted = merge_cells(cells, order, merged)
            if not is_sorted:
                order = np.lexsort((cells["window"], cells["segment"], cells["key"]))
                count, _ = merge_cells(cells, order, merged)
            cells = merged[:count]
            if len(cells) * 2 > len(self.all_cells) and len(self.all_cells) < MAX_CELLS:
                self.all_cells = np.empty(len(self.all_cells) * 2, CELL)
            self.all_cells[: len(cells)] = cells
            self.state[N_CELLS] = len(cells)
            if len(cells) * 2 <= MAX_CELLS:
                break
            self.state[WINDOW] *= 2
            self.cells["window"] //= 2
        self.all_keys["cell"][: self.state[N_KEYS]] = -1
        self.state[[SLOT_FROM, SLOT_TO]] = 1, 0

    def finish(self) -> None:
        """Bring events in order of time, once everything is counted."""
        times = np.ascontiguousarray(self.events["time_ns"])
        if len(times) and (times[1:] < times[:-1]).any():
            self.events[:] = self.events[np.argsort(times, kind="stable")]

    def keep_between(self, begin_ns: int, end_ns: int) -> None:
        """Forget what lies before `begin_ns` or from `end_ns` on; both must be boundaries."""
        first = int(np.searchsorted(self.boundaries, begin_ns, side="right"))
        last = int(np.searchsorted(self.boundaries, end_ns, side="right"))
        cells = self.cells[(self.cells["segment"] >= first) & (self.cells["segment"] < last)]
        events = self.events[(self.events["time_ns"] >= begin_ns) & (self.events["time_ns"] < end_ns)]
        self.all_cells[: len(cells)] = cells
        self.all_events[: len(events)] = events
        self.state[[N_CELLS, N_EVENTS]] = len(cells), len(events)
        self.state[FRAMES] = cells["packets"].sum()
        if len(cells):
            self.state[[FIRST_NS, LAST_NS]] = cells["first_ns"].min(), cells["last_ns"].max()
        else:
            self.state[[FIRST_NS, LAST_NS]] = begin_ns, begin_ns


assert len(SERVICES) * len(TRANSPORTS) < SPARE_KEYS
