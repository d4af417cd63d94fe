"""Simple Service Discovery: M-SEARCH bursts and NOTIFY announcements (UPnP 1.1 §1.2, §1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from testbed.behaviours import facts
from testbed.behaviours.schedule import Rounds
from testbed.host import About
from testbed.protocols import ssdp as codec

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import Ssdp


async def ssdp(host: Host, p: Ssdp) -> None:
    """Search, announce, or both, in every round."""
    rounds = Rounds(host, p)
    uuid = f"uuid:{uuid5(NAMESPACE_OID, host.mac)}"
    port = host.rng.randrange(32768, 61000)
    while await rounds.next():
        await facts.ready(host, p.requires)
        await facts.turn(host, p.thread)
        lease = host.lease
        if lease is None:
            continue
        messages = [(target, codec.search(target, p.mx, p.user_agent), "M-SEARCH") for target in p.search]
        location = p.location.format(address=lease.address)
        for kind in p.notify:
            usn = uuid if kind == uuid else f"{uuid}::{kind}"
            messages.append((kind, codec.alive(kind, usn, location, p.server), "NOTIFY"))
        for number in range(p.repeat):
            for target, message, why in messages:
                about = About("SSDP", target, number, why)
                host.udp_send(codec.GROUP, codec.PORT, message, about, source_port=port, ttl=codec.TTL)
                await host.sleep(p.spacing)
