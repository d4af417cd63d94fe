"""What the simulation emits: compact records of what was sent when, in columns.

SimPy's tasks write here; nothing is built packet by packet. A record is one datagram (`datagram`)
or one played TCP plan (`plan`); `testbed.simulation.render` expands a batch of them into frames.

Rules of this file:
- Times are nanoseconds from the start of the capture. What ends before 0 is not recorded.
- A record may reach into the future. `cut` ends it early (power-off, abort): frames after the cut
  were never sent. Only frames not yet rendered can be cut, so a batch is taken up to now.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.protocols.tls import RECORD_HEADER_BYTES
from testbed.simulation.plans import RST, SERVER, syn_options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.simulation.plans import Played, Stack

NEVER = 1 << 62
SCRIPT_ROWS = 400_000
"""Segments kept in scripts before those no longer needed are dropped."""

# Columns of a datagram record.
(D_AT, D_CUT, D_LABEL, D_EXCHANGE, D_RECEIVED, D_SRC_MAC, D_DST_MAC) = range(7)
(D_SRC_IP, D_DST_IP, D_SPORT, D_DPORT, D_META, D_IPID, D_OFFSET, D_LENGTH) = range(7, 15)
DATAGRAM_COLUMNS = 15

# Columns of a plan record.
(P_AT, P_CUT, P_ACK_CUT, P_LABEL, P_EXCHANGE, P_SCRIPT, P_CLIENT_MAC, P_SERVER_MAC) = range(8)
(P_CLIENT_IP, P_SERVER_IP, P_CLIENT_PORT, P_SERVER_PORT, P_TTLS, P_CLIENT_SEQ, P_SERVER_SEQ) = range(8, 15)
(P_CLIENT_IPID, P_SERVER_IPID, P_UP, P_DOWN, P_UP_LENGTH, P_DOWN_LENGTH) = range(15, 21)
(P_CLIENT_STAMP, P_SERVER_STAMP, P_CLIENT_ECHO, P_SERVER_ECHO) = range(21, 25)
PLAN_COLUMNS = 25

# Columns of a script's segments.
(S_AT, S_SIDE, S_FLAGS, S_SEQ, S_ACK, S_PAYLOAD, S_LENGTH, S_SENT) = range(8)
(S_ECHO, S_DELAYED, S_WINDOW, S_OPTIONS, S_IPID) = range(8, 13)
SCRIPT_COLUMNS = 13

# Meta of a datagram: what stands behind its Ethernet header.
UDP, ICMP, IGMP, ARP = 17, 1, 2, 0
DONT_FRAGMENT = 1 << 16
ROUTER_ALERT = 1 << 17
NO_OPTIONS, STAMP_OPTIONS = 0, 1


def meta(protocol: int, ttl: int, flags: int = 0) -> int:
    """Pack a datagram's IP protocol, TTL and flags."""
    return protocol | ttl << 8 | flags


Payload = bytes | int
"""What one side of a plan says: bytes; or, for a TLS record of ciphertext, -1 - its place in the pool."""


@dataclass(frozen=True, slots=True)
class Script:
    """A played plan, kept for use at other times and on other connections."""

    number: int
    played: Played
    span: int
    """Time of its last captured segment."""
    end: int
    """When nothing of it is under way any more."""
    heard: int | None
    """Time of the last that the server sent, None if none is captured."""


class Batch(NamedTuple):
    """Records to render, with all they refer to."""

    after: int
    """Render frames later than this …"""
    until: int
    """… up to and including this."""
    datagrams: NDArray[np.int64]
    plans: NDArray[np.int64]
    arena: bytes
    pool: bytes
    """What TLS records are filled with."""
    script_rows: NDArray[np.int64]
    script_starts: NDArray[np.int64]
    options: bytes
    option_starts: NDArray[np.int64]


_DATAGRAM = Struct(f"{DATAGRAM_COLUMNS}q")
_PLAN = Struct(f"{PLAN_COLUMNS}q")
_NUMBER = Struct("q")
pack_plan = _PLAN.pack
"""Packs the columns of a plan record (`P_`, in their order)."""


class Tape:
    """The records of a run not yet rendered, packed as they come."""

    def __init__(self, pool: bytes = b"") -> None:
        self.arena = bytearray()
        self.pool = pool
        self.rendered = -1
        """What comes later than this is still to be rendered; before 0 there is no capture."""
        self.generation = 0
        """Counts how often scripts were dropped: numbers of an earlier generation are void."""
        self._datagrams = bytearray()
        self._plans = bytearray()
        self._next_plan = 0
        self._first_new_plan = 0
        self._kept_plans: dict[int, int] = {}
        """Plans that reach into this batch from the one before: number -> place."""
        self._script_rows: list[tuple[int, ...]] = []
        self._script_starts: list[int] = [0]
        self._options = bytearray(b"\0" * 12)
        self._option_starts: list[int] = [0, 0]
        self._option_index: dict[bytes, int] = {}
        self._frozen: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._datagrams) // _DATAGRAM.size + len(self._plans) // _PLAN.size

    def datagram(self, *columns: int) -> None:
        """Add a datagram record (the `D_` columns)."""
        self._datagrams += _DATAGRAM.pack(*columns)

    def record(
        self,
        at: int,
        label: int,
        exchange: int,
        received: int,
        source: tuple[int, int, int],
        destination: tuple[int, int, int],
        meta: int,
        data: bytes,
        ident: int = 0,
    ) -> None:
        """Add a datagram with its bytes; its ends are (MAC, IP, port)."""
        if at >= 0:
            source_mac, source_ip, source_port = source
            mac, ip, port = destination
            arena = self.arena
            self._datagrams += _DATAGRAM.pack(
                at, NEVER, label, exchange, received, source_mac, mac, source_ip, ip, source_port, port, meta,
                ident, len(arena), len(data),
            )  # fmt: skip
            arena += data

    def plan(self, row: bytes) -> int:
        """Add a plan record, packed by `pack_plan`; return its number."""
        self._plans += row
        number = self._next_plan
        self._next_plan = number + 1
        return number

    def spelled(self, said: Payload, size: int) -> bytes:
        """Return what one side of a plan says, `size` bytes, as the bytes that are rendered of it."""
        if isinstance(said, bytes):
            return said
        body, at = size - RECORD_HEADER_BYTES, -1 - said
        return b"\x17\x03\x03%c%c%b" % (body >> 8, body & 255, self.pool[at : at + body])

    def cut_datagrams(self, label: int, exchange: int, now: int) -> None:
        """Take back the frames of an exchange that would be captured after `now`."""
        data = self._datagrams
        for place in range(len(data) // _DATAGRAM.size - 1, -1, -1):
            row = _DATAGRAM.unpack_from(data, place * _DATAGRAM.size)
            if row[D_LABEL] == label and row[D_EXCHANGE] == exchange and row[D_AT] > now:
                _NUMBER.pack_into(data, place * _DATAGRAM.size + 8 * D_CUT, now)

    def cut_plan(self, number: int, now: int, column: int = P_CUT) -> None:
        """End a plan early: its frames after `now` were never sent (with `P_ACK_CUT`: its delayed ACKs)."""
        place = self._kept_plans.get(number)
        if place is None:
            if number < self._first_new_plan:
                return  # rendered as a whole
            place = number - self._first_new_plan + len(self._kept_plans)
        at = place * _PLAN.size + 8 * column
        if _NUMBER.unpack_from(self._plans, at)[0] > now:
            _NUMBER.pack_into(self._plans, at, now)

    def script(self, played: Played, client: Stack, server: Stack) -> Script:
        """Keep a played plan."""
        options = [self._syn_options(client), self._syn_options(server, client)]
        windows = client.window_field(server), server.window_field(client)
        stamped = client.timestamps and server.timestamps
        numbers = [0, 0]
        base = len(self._script_rows)
        for segment in played.segments:
            stack = client if segment.side == 0 else server
            syn = segment.flags & 2
            window = stack.window if syn else windows[segment.side]
            if segment.flags & RST and segment.side == SERVER:  # it knows no such connection
                window, option = 0, NO_OPTIONS
            else:
                option = options[segment.side] if syn else STAMP_OPTIONS if stamped else NO_OPTIONS
            self._script_rows.append(
                (
                    segment.at,
                    segment.side,
                    segment.flags,
                    segment.seq,
                    segment.ack,
                    segment.payload,
                    segment.length,
                    segment.sent,
                    segment.echo,
                    segment.delayed,
                    window,
                    option,
                    numbers[segment.side],
                )
            )
            numbers[segment.side] += 1
        self._script_starts.append(base + len(played.segments))
        self._frozen = None
        span = max((segment.at for segment in played.segments), default=0)
        heard = max((segment.at for segment in played.segments if segment.side == SERVER), default=None)
        return Script(len(self._script_starts) - 2, played, span, max(span, played.quiet), heard)

    def _syn_options(self, stack: Stack, asker: Stack | None = None) -> int:
        """Return the index of a SYN's option bytes."""
        data = syn_options(stack, asker)
        index = self._option_index.get(data)
        if index is None:
            index = self._option_index[data] = len(self._option_starts)
            self._option_starts.append(len(self._options))
            self._options += bytes([len(data)]) + data + bytes(39 - len(data))
        return index

    def payload(self, data: Payload) -> int:
        """Keep payload bytes; return where (a record of ciphertext stays where it is)."""
        if isinstance(data, int):
            return data
        at = len(self.arena)
        self.arena += data
        return at

    def take(self, until: int) -> Batch:
        """Return everything up to `until` for rendering, and keep what reaches beyond it."""
        datagrams = np.frombuffer(bytes(self._datagrams), np.int64).reshape(-1, DATAGRAM_COLUMNS)
        plans = np.frombuffer(bytes(self._plans), np.int64).reshape(-1, PLAN_COLUMNS)
        if self._frozen is None:
            self._frozen = (
                np.array(self._script_rows, np.int64).reshape(-1, SCRIPT_COLUMNS),
                np.array(self._script_starts, np.int64),
            )
        rows, starts = self._frozen
        arena = bytes(self.arena)
        batch = Batch(
            self.rendered,
            until,
            datagrams,
            plans,
            arena,
            self.pool,
            rows,
            starts,
            bytes(self._options),
            np.array(self._option_starts, np.int64),
        )
        self.rendered = max(self.rendered, until)
        self.arena = bytearray()
        self._datagrams = bytearray()
        for row in datagrams[datagrams[:, D_AT] > until].tolist():
            row[D_OFFSET] = self.payload(arena[row[D_OFFSET] : row[D_OFFSET] + row[D_LENGTH]])
            self.datagram(*row)
        self._keep_plans(plans, rows, starts, arena, until)
        if len(rows) > SCRIPT_ROWS:
            self._drop_scripts(rows, starts)
        return batch

    def _keep_plans(
        self,
        plans: NDArray[np.int64],
        rows: NDArray[np.int64],
        starts: NDArray[np.int64],
        arena: bytes,
        until: int,
    ) -> None:
        """Carry the plans that reach beyond `until` over into the next batch."""
        spans = np.zeros(max(0, len(starts) - 1), np.int64)
        filled = np.diff(starts) > 0
        if len(rows):
            spans[filled] = np.maximum.reduceat(rows[:, S_AT], starts[:-1][filled])
        numbers = [*self._kept_plans, *range(self._first_new_plan, self._next_plan)]
        self._plans, self._kept_plans = bytearray(), {}
        self._first_new_plan = self._next_plan
        late = (plans[:, P_AT] + spans[plans[:, P_SCRIPT]] > until) & (plans[:, P_CUT] > until)
        for place in np.flatnonzero(late).tolist():
            row = plans[place].tolist()
            for column, length in ((P_UP, P_UP_LENGTH), (P_DOWN, P_DOWN_LENGTH)):
                if row[column] >= 0:
                    row[column] = self.payload(arena[row[column] : row[column] + row[length]])
            self._kept_plans[numbers[place]] = len(self._kept_plans)
            self._plans += _PLAN.pack(*row)

    def _drop_scripts(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
        """Keep only the scripts of the plans still to be rendered."""
        self.generation += 1
        self._script_rows, self._script_starts, self._frozen = [], [0], None
        for at in range(0, len(self._plans), _PLAN.size):
            (script,) = _NUMBER.unpack_from(self._plans, at + 8 * P_SCRIPT)
            _NUMBER.pack_into(self._plans, at + 8 * P_SCRIPT, len(self._script_starts) - 1)
            self._script_rows += [
                tuple(segment) for segment in rows[starts[script] : starts[script + 1]].tolist()
            ]
            self._script_starts.append(len(self._script_rows))
