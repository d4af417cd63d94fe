"""Names and addresses that payloads tell, kept once each: facts, texts, and what clients were told.

Rules of this file:
- Tables have a fixed size. What does not fit is left out, and a flag says so.
- `bindings` remembers for a client what an address was last called; its oldest entries give way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.analysis import tables as t
from testbed.capture.kernel import byte, i64, kernel
from testbed.capture.link import be16, be32, be64
from testbed.capture.payload import dhcp_option, domain_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from testbed.capture.kernel import Record, Records

MAPPED = 0xFFFF << 32
Store = Any
"""What the kernels of this file work on: (state, facts, index of facts, blob of texts, scratch, bindings)."""


@kernel
def mix(seed: int, value: int) -> int:
    """Fold a number into a hash."""
    seed = (seed ^ value) * -7046029254386353131
    return seed ^ (seed >> 29 & 0x7FFFFFFFF)


@kernel
def add_fact(
    state: NDArray[np.int64],
    facts: Records,
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
            return i64(index[slot])
        slot = (slot + 1) & mask
    number: int = state[t.N_FACTS]
    if number >= len(facts):
        state[t.FACTS_FULL] = 1
        return 0
    state[t.N_FACTS] = number + 1
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
    facts: Records,
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
        digest = mix(digest, i64(text[i]))
    if state[t.N_BLOB] + size > len(blob):
        state[t.FACTS_FULL] = 1
        return 0
    before = state[t.N_FACTS]
    number = add_fact(state, facts, index, t.TEXT, 0, 0, 0, 0, time_ns, digest)
    if number == before and number > 0 and state[t.N_FACTS] > before:
        row = facts[number]
        row.blob = state[t.N_BLOB]
        row.size = size
        for i in range(size):
            blob[row.blob + i] = text[i]
        state[t.N_BLOB] += size
    return number


@kernel
def way(table: Records, digest: int, time_ns: int) -> tuple[int, int, bool]:
    """Find an entry of a set-associative table, or make room by its set's oldest; return
    (set, way, whether it was there).
    """
    row = (digest >> 20) & (len(table) - 1)
    oldest = 0
    for i in range(t.WAYS):
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
def bind(bindings: Records, mac: int, hi: int, lo: int, name: int, time_ns: int) -> None:
    """Remember what `mac` was told that an address is called."""
    row, i, _ = way(bindings, mix(mix(mix(1, mac), hi), lo), time_ns)
    bindings[row, i].name = name
    bindings[row, i].last_ns = time_ns


@kernel
def bound(bindings: Records, mac: int, hi: int, lo: int) -> int:
    """Return the name that `mac` was last told for an address, 0 if none."""
    digest = mix(mix(mix(1, mac), hi), lo)
    row = (digest >> 20) & (len(bindings) - 1)
    for i in range(t.WAYS):
        if bindings[row, i].hash == digest:
            return i64(bindings[row, i].name)
    return 0


@kernel
def read_dns(buf: NDArray[np.uint8], at: int, end: int, row: Record, store: Store, multicast: bool) -> int:
    """Read a DNS or mDNS message: bind the addresses it tells; return the name it is about."""
    state, facts, index, blob, scratch, bindings = store
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
                add_fact(state, facts, index, t.MDNS_NAME, row.src, hi, lo, owner, row.time_ns, 0)
            elif about > 0:
                bind(bindings, row.dst, hi, lo, about, row.time_ns)
                add_fact(state, facts, index, t.DNS_ANSWER, row.dst, hi, lo, about, row.time_ns, 0)
        cursor += length
    return about


@kernel
def read_dhcp(buf: NDArray[np.uint8], at: int, end: int, row: Record, store: Store) -> int:
    """Read a DHCP message: names and addresses of clients; return its type."""
    state, facts, index, blob, scratch, _ = store
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
                    state,
                    facts,
                    index,
                    t.DHCP_NAME if option == 12 else t.DHCP_VENDOR,
                    client,
                    0,
                    0,
                    text,
                    row.time_ns,
                    0,
                )
    elif kind == 5:
        address = be32(buf, at + 16)
        if address != 0:
            add_fact(state, facts, index, t.DHCP_ADDRESS, client, 0, MAPPED | address, 0, row.time_ns, 0)
        where, size = dhcp_option(buf, at, end, 3)
        if size >= 4:
            add_fact(
                state, facts, index, t.DHCP_ROUTER, row.src, 0, MAPPED | be32(buf, where), 0, row.time_ns, 0
            )
    return kind
