"""Get an IPv4 lease and keep it: the client's side of RFC 2131.

The states are the RFC's: INIT and INIT-REBOOT in `_obtain`, BOUND, RENEWING and REBINDING in
`_keep`. The world takes the lease away when the link goes.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.schedule import next_time
from testbed.host import About, Lease, LinkDown, NetError
from testbed.protocols import dhcp

if TYPE_CHECKING:
    from testbed.host import Host
    from testbed.models.habits import DhcpLease

_ABOUT = About("DHCP", "dhcp")


class _Nak(Exception):
    """The server refused the address."""


async def dhcp_lease(host: Host, p: DhcpLease) -> None:
    """Keep the device configured as long as it has a link."""
    client = _Client(host, p)
    if p.also_every is not None:
        host.spawn("also", partial(_ask_again, client=client, every_s=p.also_every))
    if p.also_at:
        host.spawn("daily", partial(_ask_daily, client=client, at=p.also_at))
    if p.offline_every is not None:
        host.spawn("offline", partial(_ask_while_offline, client=client, every_s=p.offline_every))
    new_link = True
    while True:
        await host.board.wait(host, "associated")
        if new_link:
            await host.sleep(p.first_delay * host.rng.random())
        try:
            lease = await client.obtain()
        except LinkDown:
            new_link = True
            continue
        host.configure(lease)
        if new_link:
            facts.link_came_up(host)
        new_link = await client.keep(lease)
        if new_link:
            facts.link_went_down(host)


async def _ask_again(host: Host, client: _Client, every_s: float) -> None:
    """A second component of the firmware asks for the lease, beside the DHCP client's own timers."""
    while True:
        await host.sleep(every_s)
        await facts.ready(host, ())
        await client.again(host, "request", "asks again periodically")


async def _ask_daily(host: Host, client: _Client, at: tuple[float, ...]) -> None:
    """The same at times of the day."""
    while True:
        await host.sleep_until(next_time(host.now(), at))
        await facts.ready(host, ())
        await client.again(host, "request", "asks again daily")


async def _ask_while_offline(host: Host, client: _Client, every_s: float) -> None:
    """Suspect the lease whenever the Internet is gone."""
    while True:
        await host.board.wait(host, facts.LEASE, facts.OFFLINE)
        if not await host.board.change(host, facts.OFFLINE, every_s):
            await client.again(host, client.p.offline_with, "asks for the lease while off-line")


class _Client:
    """The DHCP client: what it knows, and the exchanges it can make."""

    def __init__(self, host: Host, p: DhcpLease) -> None:
        self.host = host
        self.p = p
        self._last: str | None = None

    async def obtain(self) -> Lease:
        """Get a lease, however long it takes; raises LinkDown when the link goes."""
        host, p = self.host, self.p
        rounds = 0
        while True:
            why = f"no lease after {rounds} rounds" if rounds else ""
            try:
                if p.init_reboot and self._last is not None and rounds == 0:
                    try:
                        return await self._request(host, requested=self._last, why="INIT-REBOOT")
                    except _Nak:
                        self._last = None
                return await self._discover(host, why)
            except LinkDown:
                raise
            except (NetError, _Nak):
                rounds += 1
                if p.pause:
                    await host.sleep(p.pause)

    async def keep(self, lease: Lease) -> bool:
        """Renew and rebind; return True when the link went, False when the lease is to be got anew."""
        host, p, board = self.host, self.p, self.host.board
        while True:
            share = p.renew_at * (1 + p.renew_jitter * (2 * host.rng.random() - 1))
            t1 = lease.obtained + share * lease.lease_s
            t2 = lease.obtained + max(p.rebind_at, share) * lease.lease_s
            expiry = lease.obtained + lease.lease_s
            if p.sleeps:
                if await _gone(host, expiry):
                    return True
                host.configure(None)
                await board.stimulus(host, facts.WAKE)
                return not host.associated
            if await _gone(host, t1):
                return True
            renewed = None
            try:
                renewed = await self._extend(t1, t2, expiry)
            except LinkDown:
                return True
            except _Nak:
                host.note("dhcp", outcome="nak", why="the server refused to renew")
            if renewed is None:
                host.configure(None)
                return False
            lease = renewed
            host.configure(lease)
            board.stimulate(facts.RENEWED)

    async def again(self, host: Host, how: str, why: str) -> None:
        """Ask for a lease beside the normal timers; what it had stays if nobody answers."""
        lease = host.lease
        if lease is None:
            return
        try:
            if how == "request":
                await self._request(host, ciaddr=lease.address, server=lease.server, why=why)
            else:
                await self._discover(host, why)
        except (NetError, _Nak):
            return

    async def _extend(self, t1: float, t2: float, expiry: float) -> Lease | None:
        """Ask the server from T1, any server from T2 (RFC 2131 §4.4.5); None when the lease expired."""
        host, p = self.host, self.p
        tries = 0
        while (now := host.now()) < expiry:
            lease = host.lease
            if lease is None:
                raise LinkDown
            limit, server = (t2, lease.server) if now < t2 else (expiry, None)
            wait_s = max((limit - now) / 2, p.least_wait) if tries else 0.0
            wait_s = min(wait_s, limit - now)
            if wait_s and await _gone(host, now + wait_s):
                raise LinkDown
            if host.now() >= limit and tries:
                tries = 0 if limit == t2 else tries
                if limit == expiry:
                    return None
                continue
            why = "T1" if server else "T2"
            try:
                return await self._request(
                    host, ciaddr=lease.address, server=server, tries=1, why=why, attempt=tries
                )
            except LinkDown:
                raise
            except NetError:
                tries += 1
        return None

    async def _discover(self, host: Host, why: str) -> Lease:
        """DISCOVER, OFFER, REQUEST, ACK."""
        xid = host.rng.getrandbits(32)
        began = host.now()
        offer = await self._exchange(host, xid, dhcp.DISCOVER, None, self.p.tries, why, began)
        return await self._request(
            host, requested=offer.yiaddr, server_id=offer.server_id, xid=xid, why=why, began=began
        )

    async def _request(
        self,
        host: Host,
        *,
        requested: str | None = None,
        ciaddr: str = "0.0.0.0",
        server: str | None = None,
        server_id: str | None = None,
        xid: int | None = None,
        tries: int | None = None,
        why: str = "",
        attempt: int = 0,
        began: float | None = None,
    ) -> Lease:
        """Send REQUEST until ACK; raises _Nak on a NAK and NoReply when nobody answers."""
        if xid is None:
            xid = host.rng.getrandbits(32)
        fields = {"requested_ip": requested, "ciaddr": ciaddr, "server_id": server_id}
        began = host.now() if began is None else began
        answer = await self._exchange(
            host, xid, dhcp.REQUEST, server, tries or self.p.tries, why, began, attempt, **fields
        )
        if answer.kind == dhcp.NAK:
            raise _Nak
        self._last = answer.yiaddr
        return Lease(
            address=answer.yiaddr,
            prefix=answer.prefix or 24,
            router=answer.router or answer.siaddr,
            resolvers=answer.dns,
            server=answer.server_id or answer.siaddr,
            lease_s=float(answer.lease_s or inf),
            obtained=host.now(),
        )

    async def _exchange(
        self,
        host: Host,
        xid: int,
        kind: str,
        server: str | None,
        tries: int,
        why: str,
        began: float,
        attempt: int = 0,
        **fields: str | None,
    ) -> dhcp.DhcpMessage:
        """Send a message, and again while nobody answers (RFC 2131 §4.1)."""
        p, identity = self.p, host.device.dhcp
        assert identity is not None, "a device without DHCP has no habit dhcp_lease"
        problem: NetError = LinkDown()
        for number in range(tries):
            message = dhcp.client_message(
                kind,
                host.mac,
                xid,
                secs=min(65535, int(host.now() - began)),
                hostname=identity.hostname,
                vendor_class=identity.vendor_class,
                parameters=identity.parameters,
                client_id=identity.client_id,
                max_size=identity.max_size,
                broadcast=p.broadcast,
                pad_to=identity.pad_to,
                **{key: value for key, value in fields.items() if value is not None},
            )
            wait_s = p.retransmit.wait_s(number + 1, host.rng.random())
            wait_s = max(0.5, wait_s + p.spread * (2 * host.rng.random() - 1))
            rule = f"retransmit: no answer for {wait_s:.1f} s" if number else why
            about = _ABOUT._replace(attempt=attempt + number, why=rule)
            try:
                return dhcp.parse(await host.dhcp_exchange(message, server, wait_s, about))
            except LinkDown:
                raise
            except NetError as failure:
                problem = failure
        raise problem


async def _gone(host: Host, until: float) -> bool:
    """Wait until then; True as soon as the world takes the lease away."""
    while True:
        left = until - host.now()
        if left <= 0:
            return host.lease is None
        if not await host.board.change(host, facts.LEASE, None if left == inf else left):
            return host.lease is None
        if host.lease is None:
            return True
