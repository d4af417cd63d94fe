"""Multicast DNS: probe, announce, browse (RFC 6762).

No device answers another one's queries here: what a device sends depends on itself alone, and so
an added device changes nobody else's traffic.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.host import About
from testbed.protocols import mdns as codec

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import Mdns

_GROUP, _PORT, _TTL = "224.0.0.251", 5353, 255
_PROBE_SPACING_S = 0.25


async def mdns(host: Host, p: Mdns) -> None:
    """Be on the link's DNS whenever the prerequisites hold."""
    while True:
        await facts.ready(host, p.requires)
        tasks = [host.spawn("claim", partial(_claim_and_announce, p=p))]
        if p.browse:
            tasks.append(host.spawn("browse", partial(_browse, p=p)))
        await facts.holds(host, p.requires)
        for task in tasks:
            task.cancel()


def _send(host: Host, message: bytes, service: str, why: str) -> None:
    host.udp_send(_GROUP, _PORT, message, About("mDNS", service, 0, why), source_port=_PORT, ttl=_TTL)


def _records(host: Host, p: Mdns) -> tuple[str, tuple[codec.Record, ...]]:
    """Return the device's host name on the link and all its records."""
    octets = host.mac.replace(":", "")
    name = p.hostname.format(mac=octets[6:]) + ".local"
    address = host.lease.address if host.lease else "0.0.0.0"
    ttl_s, host_ttl_s = int(p.ttl), int(p.host_ttl)
    records = [codec.address(name, address, host_ttl_s)]
    for service in p.services:
        instance = f"{service.instance.format(mac=octets)}.{service.type}"
        records += [
            codec.ptr(service.type, instance, ttl_s),
            codec.srv(instance, service.port, name, host_ttl_s),
            codec.txt(instance, tuple(text.format(mac=octets) for text in service.text), ttl_s),
        ]
    return name, tuple(records)


async def _claim_and_announce(host: Host, p: Mdns) -> None:
    """Probe for the name, announce it, and announce again when the model says so."""
    name, records = _records(host, p)
    unique = tuple(record for record in records if record.unique)
    if p.probes:
        probe = codec.probe(name, unique)
        await host.sleep(_PROBE_SPACING_S * host.rng.random())
        for _ in range(p.probes):
            await facts.turn(host, p.thread)
            _send(host, probe, name, "probe")
            await host.sleep(_PROBE_SPACING_S)
    began = host.now()
    for offset_s in p.announcements:
        await host.sleep_until(began + offset_s)
        await _announce(host, p, name, records, "announce")
    if p.again_every is None and p.again_on is None:
        return
    due = host.now()
    while True:
        due = due + p.again_every if p.again_every is not None else inf
        if p.again_on is None:
            await host.sleep_until(due)
            why = "again_every"
        else:
            await host.board.stimulus(host, p.again_on, None if due == inf else max(0.0, due - host.now()))
            why = p.again_on
            due = host.now()
        await _announce(host, p, name, records, why)


async def _announce(host: Host, p: Mdns, name: str, records: tuple[codec.Record, ...], why: str) -> None:
    await facts.turn(host, p.thread)
    _send(host, codec.announcement(records), name, why)
    if p.queries_itself and len(records) > 1:
        question = codec.Question(records[1].name, "PTR")
        _send(host, codec.query((question,), (records[1],)), records[1].name, "asks for its own service")


async def _browse(host: Host, p: Mdns) -> None:
    """Ask for services at growing intervals (RFC 6762 §5.2)."""
    query = codec.query(tuple(codec.Question(name, "PTR") for name in p.browse))
    began = host.now()
    offset_s, interval_s = p.browse_at[0], 1.0
    number = 0
    while p.browse_times is None or number < p.browse_times:
        await host.sleep_until(began + offset_s)
        await facts.turn(host, p.thread)
        _send(host, query, p.browse[0], f"browse, after {interval_s:.0f} s" if number else "browse")
        number += 1
        if number < len(p.browse_at):
            interval_s = p.browse_at[number] - offset_s
        else:
            interval_s = min(interval_s * p.browse_factor, p.browse_most)
        offset_s += interval_s
