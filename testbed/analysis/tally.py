"""From frames to tables: the kernel that every frame of a capture goes through once.

Rules of this file:
- It knows no devices and no states, only frames, so that one pass serves every analysis.
- Every table has a fixed size. What does not fit is gathered under a coarser key, so that totals
  stay exact, and a flag says so.
- A frame's name is that of its connection: what the TLS hello or HTTP request called the server,
  before that what the client had last been told the address is called (`bindings`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from testbed.analysis import tables as t
from testbed.analysis.naming import Store, add_fact, bound, intern, mix, read_dhcp, read_dns, way
from testbed.capture import frame as f
from testbed.capture.kernel import i64, kernel
from testbed.capture.link import be16, be32
from testbed.capture.payload import dns_kind, host_header, server_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.capture.kernel import Record, Records
    from testbed.capture.read import Chunk

MAPPED = 0xFFFF << 32
HOUR_NS = 3600 * 10**9
UDP_EXCHANGE_NS = 120 * 10**9
"""Silence after which datagrams between the same ports are a new exchange."""
LONGEST_FRAME = 1 << 20
"""A frame that claims more than this many bytes is not believed."""


@kernel
def key_of(
    row: Record,
    state: NDArray[np.int64],
    keys: Records,
    index: NDArray[np.int32],
    port: int,
    kind: int,
    role: int,
    name: int,
) -> int:
    """Return the key of a frame, a coarse one when the table is full."""
    packed = row.service | row.transport << 8 | kind << 16 | role << 24 | port << 32
    digest = mix(mix(mix(mix(1, row.src), row.dst), row.sip_hi), row.sip_lo)
    digest = mix(mix(mix(mix(digest, row.dip_hi), row.dip_lo), packed), name)
    mask = len(index) - 1
    slot = (digest ^ digest >> 32) & mask
    while index[slot]:
        number = i64(index[slot])
        if keys[number].hash == digest:
            return number
        slot = (slot + 1) & mask
    full = state[t.N_KEYS] >= t.MAX_KEYS
    if full:
        state[t.KEYS_FULL] = 1
        digest = mix(mix(3, row.service), row.transport)
        slot = (digest ^ digest >> 32) & mask
        while index[slot]:
            number = i64(index[slot])
            if keys[number].hash == digest:
                return number
            slot = (slot + 1) & mask
    number = i64(state[t.N_KEYS])
    state[t.N_KEYS] = number + 1
    index[slot] = number
    key = keys[number]
    key.hash = digest
    key.service = row.service
    key.transport = row.transport
    key.cell = -1
    key.last_ns = -(1 << 62)
    key.event_ns = -(1 << 62)
    if not full:
        key.src = row.src
        key.dst = row.dst
        key.sip_hi = row.sip_hi
        key.sip_lo = row.sip_lo
        key.dip_hi = row.dip_hi
        key.dip_lo = row.dip_lo
        key.name = name
        key.port = port
        key.kind = kind
        key.role = role
    return number


@kernel
def place(time_ns: int, state: NDArray[np.int64], boundaries: NDArray[np.int64]) -> None:
    """Find the window and segment of a time, and until when they hold."""
    width = state[t.WINDOW]
    window = time_ns // width
    state[t.SLOT_WINDOW] = window
    begin, until = window * width, window * width + width - 1
    if until < begin:  # beyond the range of the clock
        until = 0x7FFFFFFFFFFFFFFF
    segment = np.searchsorted(boundaries, time_ns, side="right")
    if segment > 0:
        begin = max(begin, boundaries[segment - 1])
    if segment < len(boundaries):
        until = min(until, boundaries[segment] - 1)
    state[t.SEGMENT] = segment
    state[t.SLOT_FROM] = begin
    state[t.SLOT_TO] = until


@kernel
def datagram(
    buf: NDArray[np.uint8], at: int, end: int, row: Record, store: Store
) -> tuple[bool, int, int, int, int]:
    """Read a datagram of a protocol whose port tells who serves.

    Returns (whether it is one, server's port, kind, role, name).
    """
    bindings = store[5]
    service = i64(row.service)
    if service == f.DNS:
        kind = dns_kind(buf, at, end)
        name = read_dns(buf, at, end, row, store, False)
        return True, 53, kind, t.BY_SRC if kind == 0 else t.BY_DST, name
    if service == f.MDNS:
        kind = dns_kind(buf, at, end)
        return True, 5353, kind, t.BY_SRC, read_dns(buf, at, end, row, store, True)
    if service == f.DHCP:
        kind = read_dhcp(buf, at, end, row, store)
        if row.first == 1:
            return True, 67, kind, t.BY_SRC, 0
        if row.payload >= 34 and row.dst >> 40 & 1:
            # A server's broadcast is for one client, which the message names.
            row.dst = be16(buf, at + 28) << 32 | be32(buf, at + 30)
        return True, 67, kind, t.BY_DST, 0
    if service == f.NTP:
        kind = i64(row.first) & 7
        if kind == 4 or (kind != 3 and row.sport == 123 and row.dport != 123):
            return True, 123, kind, t.BY_DST, bound(bindings, row.dst, row.sip_hi, row.sip_lo)
        return True, 123, kind, t.BY_SRC, bound(bindings, row.src, row.dip_hi, row.dip_lo)
    if service == f.SSDP:
        first = i64(row.first)
        kind = 1 if first == 77 else (2 if first == 78 else 3)  # M-SEARCH, NOTIFY, HTTP
        return True, 1900, kind, t.BY_DST if kind == 3 else t.BY_SRC, 0
    return False, 0, 0, t.NOT_KNOWN, 0


@kernel
def end_of(mac: int, hi: int, lo: int, port: int, transport: int) -> int:
    """Return a hash of one end of a connection."""
    return mix(mix(mac ^ hi << 16, lo), port << 8 | transport)


@kernel
def tcp_kind(flags: int) -> int:
    """Return the kind of a TCP frame by its flags."""
    if flags & 4:
        return t.TCP_RESET
    if flags & 2:
        return t.TCP_ACCEPT if flags & 16 else t.TCP_SYN
    if flags & 1:
        return t.TCP_FIN
    return t.TCP_OTHER


@kernel
def starter_of(row: Record, kind: int, src_end: int, tcp_ports: NDArray[np.uint8]) -> int:
    """Return which end (1 or 2) began a connection, from the first frame of it that is seen."""
    if row.transport == f.UDP or kind == t.TCP_SYN:
        return src_end
    if kind == t.TCP_ACCEPT:
        return 3 - src_end
    # Joined midway: the side with the service's port serves, else the side with the lower port.
    if row.service != f.OTHER_TCP:
        return src_end if tcp_ports[row.dport] == row.service else 3 - src_end
    return src_end if row.sport > row.dport else 3 - src_end


@kernel
def called(buf: NDArray[np.uint8], at: int, end: int, row: Record, found: int, store: Store) -> int:
    """Return the name that a TLS hello or HTTP request calls the server, 0 for none; note it."""
    state, facts, index, blob, scratch, _ = store
    is_tls = found == f.E_TLS
    size = server_name(buf, at, end, scratch) if is_tls else host_header(buf, at, end, scratch)
    if size == 0:
        return 0
    text = intern(state, facts, index, blob, scratch, size, row.time_ns)
    kind = t.SNI if is_tls else t.HOST
    add_fact(state, facts, index, kind, row.src, row.dip_hi, row.dip_lo, text, row.time_ns, 0)
    return text


@kernel
def message_role(service: int, kind: int) -> int:
    """Return who began the exchange of an ARP, ICMP, ICMPv6 or IGMP message."""
    if service == f.ARP:
        return t.BY_DST if kind == 2 else t.BY_SRC
    if service == f.ICMP and kind in (0, 3, 11):  # echo reply, unreachable, time exceeded
        return t.BY_DST
    if service == f.ICMPV6 and (kind <= 4 or kind in (129, 136)):  # errors, echo reply, advertisement
        return t.BY_DST
    return t.BY_SRC


@kernel
def count_cell(row: Record, key: Record, number: int, state: NDArray[np.int64], cells: Records) -> None:
    """Add a frame to its key's cell of the current window."""
    where = i64(key.cell)
    if (
        where >= 0
        and cells[where].window == state[t.SLOT_WINDOW]
        and cells[where].segment == state[t.SEGMENT]
    ):
        cell = cells[where]
        cell.packets += 1
        cell.bytes += row.wire
        cell.first_ns = min(cell.first_ns, row.time_ns)
        cell.last_ns = max(cell.last_ns, row.time_ns)
        return
    where = state[t.N_CELLS]
    state[t.N_CELLS] = where + 1
    key.cell = where
    cell = cells[where]
    cell.key = number
    cell.window = state[t.SLOT_WINDOW]
    cell.segment = state[t.SEGMENT]
    cell.packets = 1
    cell.bytes = row.wire
    cell.first_ns = row.time_ns
    cell.last_ns = row.time_ns


@kernel
def note_event(time_ns: int, key: Record, number: int, state: NDArray[np.int64], events: Records) -> None:
    """Note the start of a burst, and every `ONWARD_NS` that it lasts."""
    gap = time_ns - key.last_ns
    key.last_ns = time_ns
    onward = -t.BURST_NS <= gap <= t.BURST_NS
    if onward and time_ns - key.event_ns <= t.ONWARD_NS:
        return
    key.event_ns = time_ns
    where = state[t.N_EVENTS]
    if where == len(events):
        state[t.EVENTS_FULL] = 1
        return
    state[t.N_EVENTS] = where + 1
    event = events[where]
    event.time_ns = time_ns
    event.key = number
    event.onward = 1 if onward else 0


@kernel
def note_oddities(row: Record, state: NDArray[np.int64], reasons: NDArray[np.int64]) -> None:
    """Keep the span of time, and count what is odd about frames."""
    state[t.FRAMES] += 1
    if row.time_ns < state[t.FIRST_NS]:
        state[t.FIRST_NS] = row.time_ns
    if row.time_ns > state[t.LAST_NS]:
        state[t.LAST_NS] = row.time_ns
    if row.time_ns < state[t.PREVIOUS_NS]:
        state[t.BACKWARDS] += 1
    state[t.PREVIOUS_NS] = row.time_ns
    if row.captured < row.wire:
        state[t.CUT] += 1
    if row.wire > LONGEST_FRAME:
        state[t.ABSURD] += 1
    if row.reason:
        reasons[row.reason, 0] += 1
        reasons[row.reason, 1] += row.wire


@kernel
def tally(
    buf: NDArray[np.uint8],
    rows: Records,
    start: int,
    row_key: NDArray[np.int32],
    boundaries: NDArray[np.int64],
    keys: Records,
    key_index: NDArray[np.int32],
    cells: Records,
    events: Records,
    connections: Records,
    store: Store,
    votes: NDArray[np.int32],
    reasons: NDArray[np.int64],
    tcp_ports: NDArray[np.uint8],
) -> int:
    """Count frames from row `start` on; return the next row when the cells need compacting."""
    state, facts, fact_index, _, _, bindings = store
    for i in range(start, len(rows)):
        if state[t.N_CELLS] == len(cells):
            return i
        row = rows[i]
        note_oddities(row, state, reasons)
        service, transport = i64(row.service), i64(row.transport)
        sport, dport = i64(row.sport), i64(row.dport)
        at = row.at + row.payload_at
        end = at + row.payload
        port, kind, role, name, number = 0, 0, t.NOT_KNOWN, 0, 0
        found = i64(row.evidence)
        follows, low_is_src, place_in, place_way = False, True, 0, 0

        if row.version and transport in (f.TCP, f.UDP):
            fixed = False
            if transport == f.UDP:
                fixed, port, kind, role, name = datagram(buf, at, end, row, store)
            if not fixed:
                follows = True
                src_hash = end_of(row.src, row.sip_hi, row.sip_lo, sport, transport)
                dst_hash = end_of(row.dst, row.dip_hi, row.dip_lo, dport, transport)
                low_is_src = src_hash < dst_hash  # the two ends in a fixed order
                src_end = 1 if low_is_src else 2
                place_in, place_way, known = way(connections, mix(src_hash + dst_hash, 1), row.time_ns)
                link = connections[place_in, place_way]
                if transport == f.TCP:
                    kind = tcp_kind(i64(row.flags))
                    fresh = not known or kind == t.TCP_SYN
                else:
                    fresh = not known or row.time_ns - link.last_ns > UDP_EXCHANGE_NS
                if fresh:
                    link.starter = starter_of(row, kind, src_end, tcp_ports)
                    if link.starter == src_end:
                        link.name = bound(bindings, row.src, row.dip_hi, row.dip_lo)
                    else:
                        link.name = bound(bindings, row.dst, row.sip_hi, row.sip_lo)
                    link.key_low, link.key_high = 0, 0
                closing = kind in (t.TCP_RESET, t.TCP_FIN)
                link.last_ns = row.time_ns - HOUR_NS if closing else row.time_ns  # gives way sooner
                role = t.BY_SRC if link.starter == src_end else t.BY_DST
                if role == t.BY_SRC and row.names:
                    text = called(buf, at, end, row, found, store)
                    if text > 0 and text != link.name:
                        link.name = text
                        link.key_low, link.key_high = 0, 0
                name = i64(link.name)
                if service == f.MQTT and row.payload > 0 and kind == t.TCP_OTHER:
                    kind = t.TCP_MQTT + (i64(row.first) >> 4)
                if kind == t.TCP_OTHER:  # most frames: the connection remembers their key
                    number = i64(link.key_low) if low_is_src else i64(link.key_high)
                port = dport if role == t.BY_SRC else sport
        elif service in (f.ARP, f.ICMP, f.ICMPV6, f.IGMP):
            kind = sport & 255
            role = message_role(service, kind)
            if service == f.ARP and kind in (1, 2) and row.sip_lo != 0 and row.sip_lo != MAPPED:
                add_fact(state, facts, fact_index, t.ARP_ADDRESS, row.src, 0, row.sip_lo, 0, row.time_ns, 0)
        else:
            port = i64(row.ethertype)
            role = t.BY_SRC

        if number == 0:
            number = key_of(row, state, keys, key_index, port, kind, role, name)
            if follows and kind == t.TCP_OTHER:
                if low_is_src:
                    connections[place_in, place_way].key_low = number
                else:
                    connections[place_in, place_way].key_high = number
        row_key[i] = number
        if found:
            votes[number, found] += 1
        if row.time_ns < state[t.SLOT_FROM] or row.time_ns > state[t.SLOT_TO]:
            place(row.time_ns, state, boundaries)
        key = keys[number]
        count_cell(row, key, number, state, cells)
        note_event(row.time_ns, key, number, state, events)
    return len(rows)


def add(tables: t.Tables, chunk: Chunk, row_key: NDArray[np.int32]) -> None:
    """Count a chunk's frames; `row_key` gets the key of each."""
    start = 0
    while True:
        start = tally(
            chunk.bytes, chunk.frames, start, row_key, tables.boundaries, tables.all_keys,
            tables.key_index, tables.all_cells, tables.all_events, tables.connections, tables.store,
            tables.votes, tables.reasons, tables.ports,
        )  # fmt: skip
        if start == len(chunk.frames):
            return
        tables.compact()
