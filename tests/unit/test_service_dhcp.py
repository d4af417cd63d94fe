"""The DHCP server: RFC 2131's exchanges, its refusals and its silences."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import pytest

from testbed.errors import UserError
from testbed.protocols import dhcp
from testbed.services import ServiceContext
from testbed.services.dhcp_server import DhcpServer, allot
from testbed.services.registry import build

PEER = ("0.0.0.0", 68)
MAC, OTHER = "50:c7:bf:00:00:01", "00:1c:2b:00:00:02"


def server(**options: Any) -> DhcpServer:
    made = build("dhcp_server", options, ServiceContext("router"))
    assert isinstance(made, DhcpServer)
    return made


def say(
    to: DhcpServer, kind: str, mac: str = MAC, now: float = 0.0, **fields: Any
) -> dhcp.DhcpMessage | None:
    answers = to.handle(dhcp.client_message(kind, mac, 77, **fields), PEER, now)
    return dhcp.parse(answers[0].data) if answers else None


def lease(to: DhcpServer, mac: str = MAC, now: float = 0.0) -> str:
    offer = say(to, "DISCOVER", mac, now)
    assert offer is not None and offer.kind == "OFFER"
    ack = say(to, "REQUEST", mac, now, requested_ip=offer.yiaddr, server_id=offer.server_id)
    assert ack is not None and (ack.kind, ack.yiaddr) == ("ACK", offer.yiaddr)
    return ack.yiaddr


def test_discover_offer_request_ack_gives_the_whole_configuration() -> None:
    router = server(lease="12h", resolvers=["192.168.1.1", "8.8.8.8"])
    address = lease(router)
    ack = say(router, "REQUEST", ciaddr=address)
    assert ack is not None
    assert (ack.xid, ack.mac, ack.lease_s, ack.prefix, ack.router) == (77, MAC, 43200, 24, "192.168.1.1")
    assert ack.dns == ("192.168.1.1", "8.8.8.8")
    assert ack.options[dhcp.BROADCAST] == bytes((192, 168, 1, 255))
    assert ack.options[dhcp.DOMAIN] == b"lan"
    assert (ack.t1, ack.t2) == (None, None)


def test_only_what_the_client_asks_for_is_told() -> None:
    offer = say(server(times=True), "DISCOVER", parameters=(3, 1))
    assert offer is not None
    assert sorted(offer.options) == [1, 3, 51, 53, 54, 58, 59]
    assert (offer.t1, offer.t2) == (21600, 37800)


def test_a_renewal_extends_the_lease() -> None:
    router = server(lease="1h")
    address = lease(router)
    assert say(router, "REQUEST", now=3000, ciaddr=address) is not None
    assert router.bindings[MAC].until == 3000 + 3600


def test_an_address_comes_from_the_mac_not_from_the_order() -> None:
    first, second = server(), server()
    assert lease(first, MAC) == lease_after_another(second)


def lease_after_another(router: DhcpServer) -> str:
    lease(router, OTHER)
    return lease(router, MAC)


def test_a_fixed_address_is_nobody_elses() -> None:
    router = server(fixed={MAC: "192.168.1.20"}, first=20, size=2)
    assert lease(router, OTHER) == "192.168.1.21"
    assert lease(router, MAC) == "192.168.1.20"
    assert say(router, "DISCOVER", "02:00:00:00:00:09") is None  # the pool is empty


def test_a_client_gets_its_old_address_again_after_it_expired() -> None:
    router = server(lease="1h")
    address = lease(router, now=0)
    assert lease(router, now=90000) == address


def test_a_wish_is_granted_when_the_address_is_free() -> None:
    router = server()
    offer = say(router, "DISCOVER", requested_ip="192.168.1.111")
    assert offer is not None and offer.yiaddr == "192.168.1.111"
    taken = say(router, "DISCOVER", OTHER, requested_ip="192.168.1.111")
    assert taken is not None and taken.yiaddr != "192.168.1.111"


def test_asking_for_another_address_than_offered_is_refused() -> None:
    router = server()
    offer = say(router, "DISCOVER")
    assert offer is not None
    nak = say(router, "REQUEST", requested_ip="192.168.1.3", server_id=offer.server_id)
    assert nak is not None and (nak.kind, nak.yiaddr) == ("NAK", "0.0.0.0")


def test_choosing_another_server_frees_the_offer() -> None:
    router = server(first=50, size=1)
    say(router, "DISCOVER")
    assert say(router, "REQUEST", requested_ip="192.168.1.50", server_id="192.168.1.2") is None
    assert lease(router, OTHER) == "192.168.1.50"


def test_init_reboot_is_confirmed_refused_or_left_to_others() -> None:
    router = server()
    address = lease(router)
    known = say(router, "REQUEST", requested_ip=address)
    assert known is not None and known.kind == "ACK"
    moved = say(router, "REQUEST", requested_ip="10.0.0.7")
    assert moved is not None and moved.kind == "NAK"
    wrong = say(router, "REQUEST", requested_ip="192.168.1.3")
    assert wrong is not None and wrong.kind == "NAK"
    router.forget()
    assert say(router, "REQUEST", requested_ip=address) is None


def test_a_renewal_that_nobody_knows_is_refused() -> None:
    router = server()
    address = lease(router)
    router.forget()
    nak = say(router, "REQUEST", ciaddr=address)
    assert nak is not None and nak.kind == "NAK"
    assert dhcp.target(nak) == "255.255.255.255"


def test_an_authoritative_server_learns_its_leases_again() -> None:
    router = server(authoritative=True)
    address = lease(router)
    router.forget()
    for ack in (say(router, "REQUEST", requested_ip=address), say(router, "REQUEST", ciaddr=address)):
        assert ack is not None and ack.kind == "ACK"
    theft = say(router, "REQUEST", OTHER, ciaddr=address)
    assert theft is not None and theft.kind == "NAK"


def test_released_and_declined_addresses() -> None:
    router = server(first=50, size=2)
    address = lease(router)
    assert say(router, "RELEASE", ciaddr=address, server_id="192.168.1.1") is None
    assert MAC not in router.bindings
    address = lease(router)
    assert say(router, "DECLINE", requested_ip=address, server_id="192.168.1.1") is None
    assert lease(router) != address
    assert say(router, "DISCOVER", OTHER) is None  # one is leased, the other in use by a stranger
    assert say(router, "DISCOVER", OTHER, now=4000) is not None


def test_inform_gets_the_configuration_without_an_address() -> None:
    ack = say(server(), "INFORM", ciaddr="192.168.1.77")
    assert ack is not None
    assert (ack.kind, ack.yiaddr, ack.ciaddr, ack.lease_s) == ("ACK", "0.0.0.0", "192.168.1.77", None)


def test_allotted_addresses_do_not_depend_on_who_comes_later() -> None:
    network = IPv4Network("192.168.1.0/24")
    macs = [f"02:00:00:00:00:{number:02x}" for number in range(60)]
    all_of_them = allot(macs, network, 100, 60, {macs[3]: "192.168.1.7"})
    assert allot(macs[:20], network, 100, 60, {macs[3]: "192.168.1.7"}).items() <= all_of_them.items()
    assert len(set(all_of_them.values())) == 60
    assert all_of_them[macs[3]] == "192.168.1.7"
    with pytest.raises(ValueError, match="pool of 10 addresses is too small"):
        allot(macs, network, 100, 10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"first": 200, "size": 100}, "the pool ends at host 299, 192.168.1.0/24 ends at 254"),
        ({"fixed": {MAC: "10.0.0.1"}}, "10.0.0.1 is not in 192.168.1.0/24"),
        ({"lease": "5s"}, "greater than or equal to 60"),
        ({"leese": "5s"}, "did you mean 'lease'"),
    ],
)
def test_impossible_options_are_refused_in_words(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        server(**options)
