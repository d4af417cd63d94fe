"""Records into frames: Ethernet, ARP, IPv4, UDP, TCP, ICMP and IGMP headers with right checksums.

Compiled kernels run over a whole batch (`testbed.simulation.tape.Batch`) without the interpreter
lock, so that rendering overlaps the simulation on a second core. `render` returns the bytes of the
pcap records in order of time, and per frame what its label needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import njit

from testbed.protocols.tls import RECORD_HEADER_BYTES
from testbed.simulation import tape as t

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_DATAGRAM, _SEGMENT = 0, 1
_RECORD_HEADER = 16


class Frames(NamedTuple):
    """Frames in order of time; one row each."""

    pcap: NDArray[np.uint8]
    """The pcap records, headers included."""
    time_us: NDArray[np.int64]
    """Microseconds from the start of the capture."""
    label: NDArray[np.int64]
    exchange: NDArray[np.int64]
    received: NDArray[np.int64]
    """1 if the device of the label received the frame, 0 if it sent it."""
    length: NDArray[np.int64]


def render(batch: t.Batch, begin_us: int) -> Frames:
    """Render a batch; `begin_us` is the Unix time of the capture's start in microseconds."""
    counts = _count(
        batch.after, batch.until, batch.datagrams, batch.plans, batch.script_rows, batch.script_starts
    )
    total = int(counts)
    kind = np.empty(total, np.int64)
    record = np.empty(total, np.int64)
    row = np.empty(total, np.int64)
    at = np.empty(total, np.int64)
    _place(
        batch.after, batch.until, batch.datagrams, batch.plans, batch.script_rows, batch.script_starts,
        kind, record, row, at,
    )  # fmt: skip
    order = np.argsort(at, kind="stable")
    kind, record, row, at = kind[order], record[order], row[order], at[order]
    options = np.frombuffer(batch.options, np.uint8)
    lengths = np.empty(total, np.int64)
    _measure(
        kind,
        record,
        row,
        batch.datagrams,
        batch.plans,
        batch.script_rows,
        options,
        batch.option_starts,
        lengths,
    )
    offsets = np.zeros(total + 1, np.int64)
    np.cumsum(lengths + _RECORD_HEADER, out=offsets[1:])
    out = np.zeros(int(offsets[-1]), np.uint8)
    label = np.empty(total, np.int64)
    exchange = np.empty(total, np.int64)
    received = np.empty(total, np.int64)
    arena = np.frombuffer(batch.arena, np.uint8) if batch.arena else np.zeros(1, np.uint8)
    pool = np.frombuffer(batch.pool, np.uint8) if batch.pool else np.zeros(1, np.uint8)
    _write(
        kind, record, row, at, lengths, offsets, batch.datagrams, batch.plans, batch.script_rows,
        options, batch.option_starts, arena, pool, begin_us, out, label, exchange, received,
    )  # fmt: skip
    return Frames(out, at // 1000, label, exchange, received, lengths)


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call; kept for later processes where a folder can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # Numba found no such folder: it compiles anew in each process
        return njit(nogil=True)(function)


@_compiled
def _shown(plan, segment, after, until):  # type: ignore[no-untyped-def]
    """Return whether a segment of a plan is captured within the batch's span."""
    when = plan[t.P_AT] + segment[t.S_AT]
    if when <= after or when > until or when > plan[t.P_CUT]:
        return False
    return not (segment[t.S_DELAYED] and when > plan[t.P_ACK_CUT])


@_compiled
def _count(after, until, datagrams, plans, rows, starts):  # type: ignore[no-untyped-def]
    total = 0
    for i in range(datagrams.shape[0]):
        when = datagrams[i, t.D_AT]
        if after < when <= until and when <= datagrams[i, t.D_CUT]:
            total += 1
    for i in range(plans.shape[0]):
        script = plans[i, t.P_SCRIPT]
        for j in range(starts[script], starts[script + 1]):
            if _shown(plans[i], rows[j], after, until):
                total += 1
    return total


@_compiled
def _place(after, until, datagrams, plans, rows, starts, kind, record, row, at):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(datagrams.shape[0]):
        when = datagrams[i, t.D_AT]
        if after < when <= until and when <= datagrams[i, t.D_CUT]:
            kind[n], record[n], row[n], at[n] = _DATAGRAM, i, 0, when
            n += 1
    for i in range(plans.shape[0]):
        script = plans[i, t.P_SCRIPT]
        for j in range(starts[script], starts[script + 1]):
            if _shown(plans[i], rows[j], after, until):
                kind[n], record[n], row[n], at[n] = _SEGMENT, i, j, plans[i, t.P_AT] + rows[j, t.S_AT]
                n += 1


@_compiled
def _option_length(option, options, option_starts):  # type: ignore[no-untyped-def]
    if option == t.NO_OPTIONS:
        return 0
    if option == t.STAMP_OPTIONS:
        return 12
    return options[option_starts[option]]


@_compiled
def _measure(kind, record, row, datagrams, plans, rows, options, option_starts, lengths):  # type: ignore[no-untyped-def]
    for i in range(kind.shape[0]):
        if kind[i] == _DATAGRAM:
            d = datagrams[record[i]]
            protocol = d[t.D_META] & 255
            head = 14
            if protocol != t.ARP:
                head += 24 if d[t.D_META] & t.ROUTER_ALERT else 20
            if protocol == t.UDP:
                head += 8
            lengths[i] = head + d[t.D_LENGTH]
        else:
            segment = rows[row[i]]
            lengths[i] = (
                54 + _option_length(segment[t.S_OPTIONS], options, option_starts) + segment[t.S_LENGTH]
            )


@_compiled
def _put(out, at, value, size):  # type: ignore[no-untyped-def]
    """Write an integer, big-endian."""
    for k in range(size):
        out[at + k] = (value >> (8 * (size - 1 - k))) & 255


@_compiled
def _put_little(out, at, value):  # type: ignore[no-untyped-def]
    for k in range(4):
        out[at + k] = (value >> (8 * k)) & 255


@_compiled
def _sum(out, begin, end):  # type: ignore[no-untyped-def]
    """Return the one's complement sum of bytes (RFC 1071), unfolded."""
    total = np.int64(0)
    k = begin
    while k + 1 < end:
        total += (np.int64(out[k]) << 8) | np.int64(out[k + 1])
        k += 2
    if k < end:
        total += np.int64(out[k]) << 8
    return total


@_compiled
def _fold(total):  # type: ignore[no-untyped-def]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@_compiled
def _ip(out, at, total_length, ident, flags, ttl, protocol, source, destination, alert):  # type: ignore[no-untyped-def]
    """Write an IPv4 header with its checksum; return its length."""
    words = 6 if alert else 5
    out[at] = 0x40 | words
    out[at + 1] = 0
    _put(out, at + 2, total_length, 2)
    _put(out, at + 4, ident, 2)
    _put(out, at + 6, 0x4000 if flags else 0, 2)
    out[at + 8] = ttl
    out[at + 9] = protocol
    _put(out, at + 12, source, 4)
    _put(out, at + 16, destination, 4)
    if alert:
        _put(out, at + 20, 0x94040000, 4)  # router alert (RFC 2113)
    _put(out, at + 10, _fold(_sum(out, at, at + words * 4)), 2)
    return words * 4


@_compiled
def _pseudo(source, destination, protocol, length):  # type: ignore[no-untyped-def]
    return (
        (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF) + protocol + length
    )


@_compiled
def _write_datagram(out, at, length, d, arena):  # type: ignore[no-untyped-def]
    protocol = d[t.D_META] & 255
    _put(out, at, d[t.D_DST_MAC], 6)
    _put(out, at + 6, d[t.D_SRC_MAC], 6)
    begin = d[t.D_OFFSET]
    size = d[t.D_LENGTH]
    if protocol == t.ARP:
        _put(out, at + 12, 0x0806, 2)
        for k in range(size):
            out[at + 14 + k] = arena[begin + k]
        return
    _put(out, at + 12, 0x0800, 2)
    source, destination = d[t.D_SRC_IP], d[t.D_DST_IP]
    head = _ip(
        out, at + 14, length - 14, d[t.D_IPID], d[t.D_META] & t.DONT_FRAGMENT, (d[t.D_META] >> 8) & 255,
        protocol, source, destination, d[t.D_META] & t.ROUTER_ALERT,
    )  # fmt: skip
    body = at + 14 + head
    if protocol == t.UDP:
        _put(out, body, d[t.D_SPORT], 2)
        _put(out, body + 2, d[t.D_DPORT], 2)
        _put(out, body + 4, size + 8, 2)
        for k in range(size):
            out[body + 8 + k] = arena[begin + k]
        check = _fold(_sum(out, body, body + 8 + size) + _pseudo(source, destination, 17, size + 8))
        _put(out, body + 6, check if check else 0xFFFF, 2)
    else:
        for k in range(size):
            out[body + k] = arena[begin + k]
        if protocol == t.ICMP:
            _put(out, body + 2, 0, 2)
            _put(out, body + 2, _fold(_sum(out, body, body + size)), 2)


@_compiled
def _put_payload(out, at, begin, size, arena):  # type: ignore[no-untyped-def]
    for k in range(size):
        out[at + k] = arena[begin + k]


@_compiled
def _put_ciphertext(out, at, begin, size, place, total, pool):  # type: ignore[no-untyped-def]
    """Write `size` bytes, from `begin` on, of a TLS record of `total` bytes (its body is in the pool)."""
    body = total - RECORD_HEADER_BYTES
    for k in range(min(size, max(0, RECORD_HEADER_BYTES - begin))):
        which = begin + k
        if which == 0:
            out[at + k] = 0x17  # application data
        elif which < 3:
            out[at + k] = 3
        else:
            out[at + k] = (body >> 8) & 255 if which == 3 else body & 255
    for k in range(max(0, RECORD_HEADER_BYTES - begin), size):
        out[at + k] = pool[place + begin + k - RECORD_HEADER_BYTES]


@_compiled
def _write_segment(out, at, length, plan, segment, options, option_starts, arena, pool):  # type: ignore[no-untyped-def]
    side = segment[t.S_SIDE]
    if side == 0:
        smac, dmac = plan[t.P_CLIENT_MAC], plan[t.P_SERVER_MAC]
        sip, dip = plan[t.P_CLIENT_IP], plan[t.P_SERVER_IP]
        sport, dport = plan[t.P_CLIENT_PORT], plan[t.P_SERVER_PORT]
        ttl = plan[t.P_TTLS] & 255
        seq = plan[t.P_CLIENT_SEQ] + segment[t.S_SEQ]
        ack = plan[t.P_SERVER_SEQ] + segment[t.S_ACK]
        ident = plan[t.P_CLIENT_IPID] + segment[t.S_IPID]
        stamp, echo_stamp = plan[t.P_CLIENT_STAMP], plan[t.P_SERVER_STAMP]
        before = plan[t.P_CLIENT_ECHO]
        payload, total = plan[t.P_UP], plan[t.P_UP_LENGTH]
    else:
        smac, dmac = plan[t.P_SERVER_MAC], plan[t.P_CLIENT_MAC]
        sip, dip = plan[t.P_SERVER_IP], plan[t.P_CLIENT_IP]
        sport, dport = plan[t.P_SERVER_PORT], plan[t.P_CLIENT_PORT]
        ttl = (plan[t.P_TTLS] >> 8) & 255
        seq = plan[t.P_SERVER_SEQ] + segment[t.S_SEQ]
        ack = plan[t.P_CLIENT_SEQ] + segment[t.S_ACK]
        ident = plan[t.P_SERVER_IPID] + segment[t.S_IPID]
        stamp, echo_stamp = plan[t.P_SERVER_STAMP], plan[t.P_CLIENT_STAMP]
        before = plan[t.P_SERVER_ECHO]
        payload, total = plan[t.P_DOWN], plan[t.P_DOWN_LENGTH]
    flags = segment[t.S_FLAGS]
    option = segment[t.S_OPTIONS]
    extra = _option_length(option, options, option_starts)
    size = segment[t.S_LENGTH]
    _put(out, at, dmac, 6)
    _put(out, at + 6, smac, 6)
    _put(out, at + 12, 0x0800, 2)
    _ip(out, at + 14, length - 14, ident & 0xFFFF, 1, ttl, 6, sip, dip, 0)
    body = at + 34
    _put(out, body, sport, 2)
    _put(out, body + 2, dport, 2)
    _put(out, body + 4, seq & 0xFFFFFFFF, 4)
    _put(out, body + 8, ack & 0xFFFFFFFF if flags & 16 else 0, 4)
    out[body + 12] = ((20 + extra) // 4) << 4
    out[body + 13] = flags
    _put(out, body + 14, segment[t.S_WINDOW], 2)
    if extra:
        value = ((plan[t.P_AT] + segment[t.S_SENT]) // 1_000_000 + stamp) & 0xFFFFFFFF
        echoed = segment[t.S_ECHO]
        moment = before if echoed < -(1 << 61) else plan[t.P_AT] + echoed
        echo = (moment // 1_000_000 + echo_stamp) & 0xFFFFFFFF if moment > -(1 << 61) else 0
        where = -1
        if option == t.STAMP_OPTIONS:
            out[body + 20], out[body + 21], out[body + 22], out[body + 23] = 1, 1, 8, 10
            where = body + 24
        else:
            source = option_starts[option] + 1
            for k in range(extra):
                out[body + 20 + k] = options[source + k]
            if extra >= 16 and out[body + 26] == 8 and out[body + 27] == 10:
                where = body + 28
        if where >= 0:
            _put(out, where, value, 4)
            _put(out, where + 4, echo, 4)
    data = body + 20 + extra
    if payload >= 0:
        _put_payload(out, data, payload + segment[t.S_PAYLOAD], size, arena)
    else:
        _put_ciphertext(out, data, segment[t.S_PAYLOAD], size, -1 - payload, total, pool)
    check = _sum(out, body, data + size) + _pseudo(sip, dip, 6, 20 + extra + size)
    _put(out, body + 16, _fold(check), 2)


@_compiled
def _write(  # type: ignore[no-untyped-def]
    kind, record, row, at, lengths, offsets, datagrams, plans, rows, options, option_starts, arena, pool,
    begin_us, out, label, exchange, received,
):  # fmt: skip
    for i in range(kind.shape[0]):
        begin = offsets[i]
        moment = begin_us + at[i] // 1000
        _put_little(out, begin, moment // 1_000_000)
        _put_little(out, begin + 4, moment % 1_000_000)
        _put_little(out, begin + 8, lengths[i])
        _put_little(out, begin + 12, lengths[i])
        if kind[i] == _DATAGRAM:
            d = datagrams[record[i]]
            label[i], exchange[i], received[i] = d[t.D_LABEL], d[t.D_EXCHANGE], d[t.D_RECEIVED]
            _write_datagram(out, begin + _RECORD_HEADER, lengths[i], d, arena)
        else:
            plan = plans[record[i]]
            segment = rows[row[i]]
            label[i], exchange[i] = plan[t.P_LABEL], plan[t.P_EXCHANGE]
            received[i] = segment[t.S_SIDE]
            _write_segment(
                out, begin + _RECORD_HEADER, lengths[i], plan, segment, options, option_starts, arena, pool
            )
