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
from testbed.analysis.payload import (
    ANSWERED,
    E_HTTP,
    E_TLS,
    dhcp_option,
    dns_kind,
    domain_name,
    host_header,
    lower,
    recognise,
    server_name,
)
from testbed.capture import frame as f
from testbed.capture.dissect import be16, be32, be64
from testbed.capture.kernel import byte, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from testbed.capture.read import Chunk

MAPPED = 0xFFFF << 32
MULTICAST = 1 << 40
HOUR_NS = 3600 * 10**9
UDP_EXCHANGE_NS = 120 * 10**9

# Numba freezes module globals into the kernel: the codes it uses, by name.
ARP, DHCP, DNS, MDNS, SSDP, NTP = f.ARP, f.DHCP, f.DNS, f.MDNS, f.SSDP, f.NTP
MQTT, HTTPS, OTHER_TCP, OTHER_UDP, NON_IP = f.MQTT, f.HTTPS, f.OTHER_TCP, f.OTHER_UDP, f.NON_IP
ICMP, ICMPV6, IGMP = f.ICMP, f.ICMPV6, f.IGMP
TCP, UDP, SERVICES = f.TCP, f.UDP, len(f.SERVICES)
N_KEYS, N_CELLS, N_EVENTS, N_FACTS, N_BLOB, SEGMENT = t.N_KEYS, t.N_CELLS, t.N_EVENTS, t.N_FACTS, t.N_BLOB, t.SEGMENT
SLOT_FROM, SLOT_TO, SLOT_WINDOW, WINDOW = t.SLOT_FROM, t.SLOT_TO, t.SLOT_WINDOW, t.WINDOW
KEYS_FULL, EVENTS_FULL, FACTS_FULL = t.KEYS_FULL, t.EVENTS_FULL, t.FACTS_FULL
FIRST_NS, LAST_NS, BACKWARDS, FRAMES, PREVIOUS_NS, CUT, ABSURD = (
    t.FIRST_NS, t.LAST_NS, t.BACKWARDS, t.FRAMES, t.PREVIOUS_NS, t.CUT, t.ABSURD,
)  # fmt: skip
LONGEST_FRAME = 1 << 20
MAX_KEYS, WAYS, BURST_NS, ONWARD_NS = t.MAX_KEYS, t.WAYS, t.BURST_NS, t.ONWARD_NS
TEXT, DNS_ANSWER, SNI, HOST, DHCP_NAME, DHCP_VENDOR, DHCP_ADDRESS, DHCP_ROUTER, MDNS_NAME, ARP_ADDRESS = (
    t.TEXT, t.DNS_ANSWER, t.SNI, t.HOST, t.DHCP_NAME, t.DHCP_VENDOR, t.DHCP_ADDRESS, t.DHCP_ROUTER, t.MDNS_NAME,
    t.ARP_ADDRESS,
)  # fmt: skip
NOT_KNOWN, BY_SRC, BY_DST = t.NOT_KNOWN, t.BY_SRC, t.BY_DST
SYN, ACCEPT, RESET, FIN, MQTT_KIND = t.TCP_SYN, t.TCP_ACCEPT, t.TCP_RESET, t.TCP_FIN, t.TCP_MQTT


@kernel
def mix(seed: int, value: int) -> int:
    """Fold a number into a hash."""
    seed = (seed ^ value) * -7046029254386353131
    return seed ^ (seed >> 29 & 0x7FFFFFFFF)


@kernel
def add_fact(
    state: NDArray[np.int64],
    facts: np.ndarray,
    index: NDArray[np.int32],
    kind: int,
    subject: int,
    hi: int,
    lo: int,
    name: int,
    time_ns: int,
    identity: int,
) -> int:
    """Note a fact; return its row, 0 if the table is full. `identity` is 0 except for texts."""
    digest = mix(mix(mix(mix(mix(kind + 1, subject), hi), lo), name), identity)
    mask = len(index) - 1
    slot = digest & mask
    while index[slot]:
        row = facts[index[slot]]
        if row.hash == digest:
            row.first_ns = min(row.first_ns, time_ns)
            row.last_ns = max(row.last_ns, time_ns)
            row.count += 1
            return np.int64(index[slot])  # type: ignore[return-value]
        slot = (slot + 1) & mask
    number = state[N_FACTS]
    if number >= len(facts):
        state[FACTS_FULL] = 1
        return 0
    state[N_FACTS] = number + 1
    index[slot] = number
    row = facts[number]
    row.hash = digest
    row.kind = kind
    row.subject = subject
    row.hi = hi
    row.lo = lo
    row.name = name
    row.first_ns = time_ns
    row.last_ns = time_ns
    row.count = 1
    return number


@kernel
def intern(
    state: NDArray[np.int64],
    facts: np.ndarray,
    index: NDArray[np.int32],
    blob: NDArray[np.uint8],
    text: NDArray[np.uint8],
    size: int,
    time_ns: int,
) -> int:
    """Return the fact of a text, 0 for an empty one or when there is no room."""
    if size <= 0:
        return 0
    digest = size
    for i in range(size):
        digest = mix(digest, np.int64(text[i]))
    if state[N_BLOB] + size > len(blob):
        state[FACTS_FULL] = 1
        return 0
    before = state[N_FACTS]
    number = add_fact(state, facts, index, TEXT, 0, 0, 0, 0, time_ns, digest)
    if number == before and number > 0 and state[N_FACTS] > before:
        row = facts[number]
        row.blob = state[N_BLOB]
        row.size = size
        for i in range(size):
            blob[row.blob + i] = text[i]
        state[N_BLOB] += size
    return number


@kernel
def way(table: np.ndarray, digest: int, time_ns: int) -> tuple[int, int, bool]:
    """Find an entry of a set-associative table, or make room by its set's oldest; return
    (set, way, whether it was there)."""
    row = (digest >> 20) & (len(table) - 1)
    oldest = 0
    for i in range(WAYS):
        if table[row, i].hash == digest:
            return row, i, True
        if table[row, i].last_ns < table[row, oldest].last_ns or table[row, i].hash == 0:
            oldest = i
            if table[row, i].hash == 0:
                break
    entry = table[row, oldest]
    entry.hash = digest
    entry.last_ns = time_ns
    entry.name = 0
    entry.key_low = 0
    entry.key_high = 0
    entry.starter = 0
    return row, oldest, False


@kernel
def bind(bindings: np.ndarray, mac: int, hi: int, lo: int, name: int, time_ns: int) -> None:
    """Remember what `mac` was told that an address is called."""
    row, i, _ = way(bindings, mix(mix(mix(1, mac), hi), lo), time_ns)
    bindings[row, i].name = name
    bindings[row, i].last_ns = time_ns


@kernel
def bound(bindings: np.ndarray, mac: int, hi: int, lo: int) -> int:
    """Return the name that `mac` was last told for an address, 0 if none."""
    digest = mix(mix(mix(1, mac), hi), lo)
    row = (digest >> 20) & (len(bindings) - 1)
    for i in range(WAYS):
        if bindings[row, i].hash == digest:
            return np.int64(bindings[row, i].name)  # type: ignore[return-value]
    return 0


@kernel
def read_dns(
    buf: NDArray[np.uint8],
    at: int,
    end: int,
    row: np.void,
    state: NDArray[np.int64],
    facts: np.ndarray,
    index: NDArray[np.int32],
    blob: NDArray[np.uint8],
    bindings: np.ndarray,
    scratch: NDArray[np.uint8],
    multicast: bool,
) -> int:
    """Read a DNS or mDNS message: bind the addresses it tells; return the name it is about."""
    if at + 12 > end:
        return 0
    questions, answers = be16(buf, at + 4), be16(buf, at + 6)
    size, cursor = domain_name(buf, at, at + 12, end, scratch)
    if size < 0:
        return 0
    about = intern(state, facts, index, blob, scratch, size, row.time_ns)
    if questions > 0:
        cursor += 4
    else:
        cursor = at + 12
    for _ in range(min(questions - 1, 64)):
        size, cursor = domain_name(buf, at, cursor, end, scratch)
        if size < 0:
            return about
        cursor += 4
    if be16(buf, at + 2) < 0x8000:
        return about
    if multicast:
        answers += be16(buf, at + 10) + be16(buf, at + 8)
    for _ in range(min(answers, 64)):
        size, cursor = domain_name(buf, at, cursor, end, scratch)
        if size < 0 or cursor + 10 > end:
            return about
        kind, length = be16(buf, cursor), be16(buf, cursor + 8)
        cursor += 10
        if cursor + length > end:
            return about
        hi, lo = 0, 0
        if kind == 1 and length == 4:
            lo = MAPPED | be32(buf, cursor)
        elif kind == 28 and length == 16:
            hi, lo = be64(buf, cursor), be64(buf, cursor + 8)
        if lo != 0 or hi != 0:
            if multicast:
                owner = intern(state, facts, index, blob, scratch, size, row.time_ns)
                add_fact(state, facts, index, MDNS_NAME, row.src, hi, lo, owner, row.time_ns, 0)
            elif about > 0:
                bind(bindings, row.dst, hi, lo, about, row.time_ns)
                add_fact(state, facts, index, DNS_ANSWER, row.dst, hi, lo, about, row.time_ns, 0)
        cursor += length
    return about


@kernel
def read_dhcp(
    buf: NDArray[np.uint8],
    at: int,
    end: int,
    row: np.void,
    state: NDArray[np.int64],
    facts: np.ndarray,
    index: NDArray[np.int32],
    blob: NDArray[np.uint8],
    scratch: NDArray[np.uint8],
) -> int:
    """Read a DHCP message: names and addresses of clients; return its type."""
    if end - at < 240 or be32(buf, at + 236) != 0x63825363:
        return 0
    where, size = dhcp_option(buf, at, end, 53)
    kind = byte(buf, where) if size == 1 else 0
    client = be16(buf, at + 28) << 32 | be32(buf, at + 30)
    if byte(buf, at) == 1:
        for option in (12, 60):
            where, size = dhcp_option(buf, at, end, option)
            if size > 0:
                size = min(size, 255)
                for i in range(size):
                    scratch[i] = buf[where + i]
                text = intern(state, facts, index, blob, scratch, size, row.time_ns)
                add_fact(
                    state, facts, index, DHCP_NAME if option == 12 else DHCP_VENDOR, client, 0, 0, text, row.time_ns, 0
                )
    elif kind == 5:
        address = be32(buf, at + 16)
        if address != 0:
            add_fact(state, facts, index, DHCP_ADDRESS, client, 0, MAPPED | address, 0, row.time_ns, 0)
        where, size = dhcp_option(buf, at, end, 3)
        if size >= 4:
            add_fact(state, facts, index, DHCP_ROUTER, row.src, 0, MAPPED | be32(buf, where), 0, row.time_ns, 0)
    return kind


@kernel
def key_of(
    row: np.void,
    state: NDArray[np.int64],
    keys: np.ndarray,
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
        number = np.int64(index[slot])
        if keys[number].hash == digest:
            return number  # type: ignore[return-value]
        slot = (slot + 1) & mask
    full = state[N_KEYS] >= MAX_KEYS
    if full:
        state[KEYS_FULL] = 1
        digest = mix(mix(3, row.service), row.transport)
        slot = (digest ^ digest >> 32) & mask
        while index[slot]:
            number = np.int64(index[slot])
            if keys[number].hash == digest:
                return number  # type: ignore[return-value]
            slot = (slot + 1) & mask
    number = state[N_KEYS]
    state[N_KEYS] = number + 1
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
    width = state[WINDOW]
    window = time_ns // width
    state[SLOT_WINDOW] = window
    begin, until = window * width, window * width + width - 1
    if until < begin:  # beyond the range of the clock
        until = 0x7FFFFFFFFFFFFFFF
    segment = np.searchsorted(boundaries, time_ns, side="right")
    if segment > 0:
        begin = max(begin, boundaries[segment - 1])
    if segment < len(boundaries):
        until = min(until, boundaries[segment] - 1)
    state[SEGMENT] = segment
    state[SLOT_FROM] = begin
    state[SLOT_TO] = until


@kernel
def tally(
    buf: NDArray[np.uint8],
    rows: np.ndarray,
    start: int,
    row_key: NDArray[np.int32],
    state: NDArray[np.int64],
    boundaries: NDArray[np.int64],
    keys: np.ndarray,
    key_index: NDArray[np.int32],
    cells: np.ndarray,
    events: np.ndarray,
    facts: np.ndarray,
    fact_index: NDArray[np.int32],
    blob: NDArray[np.uint8],
    connections: np.ndarray,
    bindings: np.ndarray,
    votes: NDArray[np.int32],
    reasons: NDArray[np.int64],
    scratch: NDArray[np.uint8],
    tcp_ports: NDArray[np.uint8],
) -> int:
    """Count frames from row `start` on; return the next row when the cells need compacting."""
    for i in range(start, len(rows)):
        if state[N_CELLS] == len(cells):
            return i
        row = rows[i]
        time_ns = row.time_ns
        service = np.int64(row.service)
        transport = np.int64(row.transport)
        state[FRAMES] += 1
        if time_ns < state[FIRST_NS]:
            state[FIRST_NS] = time_ns
        if time_ns > state[LAST_NS]:
            state[LAST_NS] = time_ns
        if time_ns < state[PREVIOUS_NS]:
            state[BACKWARDS] += 1
        state[PREVIOUS_NS] = time_ns
        if row.captured < row.wire:
            state[CUT] += 1
        if row.wire > LONGEST_FRAME:
            state[ABSURD] += 1
        if row.reason:
            reasons[row.reason, 0] += 1
            reasons[row.reason, 1] += row.wire

        at = row.at + row.payload_at
        end = at + row.payload
        sport, dport = np.int64(row.sport), np.int64(row.dport)
        port, kind, role, name = 0, 0, NOT_KNOWN, 0
        low, high = min(sport, dport), max(sport, dport)
        found = 0
        number = 0
        followed, followed_way, low_is_src = -1, 0, True

        if (transport == TCP or transport == UDP) and row.version:
            if row.payload > 0:
                found = recognise(buf, at, end, transport == TCP, low, high, time_ns // 1_000_000_000, scratch)
            if service == DNS and transport == UDP:
                port = 53
                kind = dns_kind(buf, at, end)
                role = BY_SRC if kind == 0 else BY_DST
                name = read_dns(buf, at, end, row, state, facts, fact_index, blob, bindings, scratch, False)
            elif service == MDNS:
                port = 5353
                kind = dns_kind(buf, at, end)
                role = BY_SRC
                name = read_dns(buf, at, end, row, state, facts, fact_index, blob, bindings, scratch, True)
            elif service == DHCP:
                port = 67
                kind = read_dhcp(buf, at, end, row, state, facts, fact_index, blob, scratch)
                role = BY_SRC if row.payload > 0 and byte(buf, at) == 1 else BY_DST
                if role == BY_DST and row.payload >= 34 and row.dst >> 40 & 1:
                    # A server's broadcast is for one client, which the message names.
                    row.dst = be16(buf, at + 28) << 32 | be32(buf, at + 30)
            elif service == NTP:
                port = 123
                kind = byte(buf, at) & 7 if row.payload > 0 else 0
                if kind == 4 or (kind != 3 and sport == 123 and dport != 123):
                    role = BY_DST
                    name = bound(bindings, row.dst, row.sip_hi, row.sip_lo)
                else:
                    role = BY_SRC
                    name = bound(bindings, row.src, row.dip_hi, row.dip_lo)
            elif service == SSDP:
                port = 1900
                role = BY_SRC
                if row.payload > 0:
                    first = byte(buf, at)
                    kind = 1 if first == 77 else (2 if first == 78 else 3)
                    if kind == 3:
                        role = BY_DST
            else:
                # Follow the connection. Its two ends in a fixed order make its identity.
                low_is_src = row.sip_lo < row.dip_lo or (row.sip_lo == row.dip_lo and sport < dport)
                if low_is_src:
                    digest = mix(mix(mix(mix(transport, row.src), row.dst), row.sip_lo), row.dip_lo)
                    digest = mix(mix(mix(digest, row.sip_hi), row.dip_hi), sport << 16 | dport)
                else:
                    digest = mix(mix(mix(mix(transport, row.dst), row.src), row.dip_lo), row.sip_lo)
                    digest = mix(mix(mix(digest, row.dip_hi), row.sip_hi), dport << 16 | sport)
                followed, followed_way, known = way(connections, digest, time_ns)
                link = connections[followed, followed_way]
                src_end = 1 if low_is_src else 2
                flags = np.int64(row.flags)
                fresh = not known
                if transport == TCP:
                    if flags & 4:
                        kind = RESET
                    elif flags & 2:
                        kind = ACCEPT if flags & 16 else SYN
                    elif flags & 1:
                        kind = FIN
                    fresh = fresh or kind == SYN
                elif time_ns - link.last_ns > UDP_EXCHANGE_NS:
                    fresh = True
                if fresh:
                    starter = src_end
                    if kind == ACCEPT:
                        starter = 3 - src_end
                    elif kind != SYN and transport == TCP:
                        # joined midway: the side with the service's port is the server
                        if tcp_ports[dport] == service and service != OTHER_TCP:
                            starter = src_end
                        elif tcp_ports[sport] == service and service != OTHER_TCP:
                            starter = 3 - src_end
                        else:
                            starter = src_end if sport > dport else 3 - src_end
                    link.starter = starter
                    if starter == src_end:
                        link.name = bound(bindings, row.src, row.dip_hi, row.dip_lo)
                    else:
                        link.name = bound(bindings, row.dst, row.sip_hi, row.sip_lo)
                    link.key_low = 0
                    link.key_high = 0
                link.last_ns = time_ns - HOUR_NS if kind == RESET or kind == FIN else time_ns
                role = BY_SRC if link.starter == src_end else BY_DST
                if role == BY_SRC and (found == E_TLS or found == E_HTTP):
                    if found == E_TLS:
                        size = server_name(buf, at, end, scratch)
                    else:
                        size = host_header(buf, at, end, scratch)
                    if size > 0:
                        text = intern(state, facts, fact_index, blob, scratch, size, time_ns)
                        add_fact(
                            state, facts, fact_index, SNI if found == E_TLS else HOST,
                            row.src, row.dip_hi, row.dip_lo, text, time_ns, 0,
                        )  # fmt: skip
                        if text != link.name:
                            link.name = text
                            link.key_low = 0
                            link.key_high = 0
                name = np.int64(link.name)
                if service == MQTT and row.payload > 0 and kind == 0:
                    kind = MQTT_KIND + (byte(buf, at) >> 4)
                if kind == 0:
                    number = np.int64(link.key_low) if low_is_src else np.int64(link.key_high)
                port = dport if role == BY_SRC else sport
        elif service == ARP:
            kind = sport & 255
            role = BY_DST if kind == 2 else BY_SRC
            if row.sip_lo != MAPPED and row.sip_lo != 0 and (kind == 1 or kind == 2):
                add_fact(state, facts, fact_index, ARP_ADDRESS, row.src, 0, row.sip_lo, 0, time_ns, 0)
        elif service == ICMP or service == ICMPV6 or service == IGMP:
            kind = sport & 255
            role = BY_SRC
            if (service == ICMP and (kind == 0 or kind == 3 or kind == 11)) or (
                service == ICMPV6 and (kind == 129 or kind <= 4 or kind == 136)
            ):
                role = BY_DST
        else:
            port = np.int64(row.ethertype)
            role = BY_SRC

        if number == 0:
            number = key_of(row, state, keys, key_index, port, kind, role, name)
            if followed >= 0 and kind == 0:
                if low_is_src:
                    connections[followed, followed_way].key_low = number
                else:
                    connections[followed, followed_way].key_high = number
        row_key[i] = number
        if found:
            votes[number, found] += 1

        key = keys[number]
        if time_ns < state[SLOT_FROM] or time_ns > state[SLOT_TO]:
            place(time_ns, state, boundaries)
        where = np.int64(key.cell)
        if where < 0 or cells[where].window != state[SLOT_WINDOW] or cells[where].segment != state[SEGMENT]:
            where = state[N_CELLS]
            state[N_CELLS] = where + 1
            key.cell = where
            cell = cells[where]
            cell.key = number
            cell.window = state[SLOT_WINDOW]
            cell.segment = state[SEGMENT]
            cell.packets = 1
            cell.bytes = row.wire
            cell.first_ns = time_ns
            cell.last_ns = time_ns
        else:
            cell = cells[where]
            cell.packets += 1
            cell.bytes += row.wire
            cell.first_ns = min(cell.first_ns, time_ns)
            cell.last_ns = max(cell.last_ns, time_ns)

        gap = time_ns - key.last_ns
        key.last_ns = time_ns
        onward = -BURST_NS <= gap <= BURST_NS
        if not onward or time_ns - key.event_ns > ONWARD_NS:
            where = state[N_EVENTS]
            if where < len(events):
                state[N_EVENTS] = where + 1
                event = events[where]
                event.time_ns = time_ns
                event.key = number
                event.onward = 1 if onward else 0
            else:
                state[EVENTS_FULL] = 1
            key.event_ns = time_ns
    return len(rows)


def add(tables: t.Tables, chunk: Chunk, row_key: NDArray[np.int32]) -> None:
    """Count a chunk's frames; `row_key` gets the key of each."""
    start = 0
    while True:
        start = tally(
            chunk.bytes, chunk.frames, start, row_key, tables.state, tables.boundaries,
            tables.all_keys, tables.key_index, tables.all_cells, tables.all_events, tables.all_facts,
            tables.fact_index, tables.blob, tables.connections, tables.bindings, tables.votes,
            tables.reasons, tables.scratch, tables.ports,
        )  # fmt: skip
        if start == len(chunk.frames):
            return
        tables.compact()
