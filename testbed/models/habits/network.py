"""Parameters of the habits that keep a device on the network: addresses, names, time, reachability."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.models.base import Backoff, Model
from testbed.models.device import Habit
from testbed.models.habits.parts import Scheduled, TimeOfDay
from testbed.models.units import Duration, Share


class DhcpLease(Habit):
    """Get an IPv4 lease and keep it (RFC 2131 §4.4)."""

    behaviour: Literal["dhcp_lease"]
    first_delay: Duration = "1s"
    """Longest wait before the first message, drawn uniformly (RFC 2131 §4.4.1 wants 1 to 10 s)."""
    retransmit: Backoff = Backoff(first="4s", factor=2, cap="64s")
    """Wait for an answer, by the number of the try (RFC 2131 §4.1)."""
    spread: Duration = "1s"
    """Each of these waits is drawn uniformly within ± this."""
    tries: int = Field(4, ge=1)
    """Messages of one kind before the client gives up and begins anew."""
    pause: Duration = "0s"
    """Wait after giving up (udhcpc: 20 s)."""
    init_reboot: bool = False
    """Ask for the last address first (INIT-REBOOT) instead of beginning with DISCOVER."""
    renew_at: Share = 0.5
    """T1 as a share of the lease, where the server gives none (RFC 2131 §4.4.5)."""
    renew_jitter: Share = 0.0
    """T1 is drawn uniformly within ± this share of itself."""
    rebind_at: Share = 0.875
    """T2 as a share of the lease, where the server gives none."""
    least_wait: Duration = "60s"
    """Least time between retransmissions while renewing or rebinding (RFC 2131 §4.4.5)."""
    also_every: Duration | None = Field(None, gt=0)
    """A second component of the firmware asks for the lease again with this period."""
    also_at: tuple[TimeOfDay, ...] = ()
    """The same at these times of the day, UTC."""
    offline_every: Duration | None = Field(None, gt=0)
    """Ask for the lease again with this period while the device believes itself off-line."""
    offline_with: Literal["discover", "request"] = "discover"
    """Whether it then begins anew, or only requests the address it has."""
    sleeps: bool = False
    """The radio sleeps between contacts: nothing is renewed, an expired lease is asked for again
    when a habit wakes the radio."""
    broadcast: bool = False
    """Ask the server to broadcast its answers."""


class NameBatch(Scheduled):
    """Look up a list of names in every round, for no connection of this testbed's concern."""

    behaviour: Literal["name_batch"]
    names: tuple[str, ...] = Field(min_length=1)
    """DNS names."""
    together: bool = False
    """All at once; otherwise one after the other."""
    walk: bool = False
    """One name a round, the next one in the next round."""
    spacing: Duration = "0s"
    """Pause between two names."""
    passes: int = Field(1, ge=1)
    """How many times the list is gone through in a round."""
    counts_as_online: bool = False
    """An answer tells the device that it is online again."""


class ClockSync(Habit):
    """Set the clock by SNTP (RFC 4330)."""

    behaviour: Literal["clock_sync"]
    servers: tuple[str, ...] = Field(min_length=1)
    """DNS names, in the order in which they are walked."""
    start: Literal["first", "random"] = "first"
    """Entry of the list to begin with after power-on."""
    next_server: Literal["on_failure", "always"] = "on_failure"
    """When to go on to the next server of the list."""
    every: Duration | None = Field(None, gt=0)
    """Time between synchronisations; null synchronises once after power-on."""
    at: tuple[TimeOfDay, ...] = ()
    """Times of the day of further synchronisations, UTC."""
    jitter: Share = 0.0
    """Each interval is drawn uniformly within ± this share of `every`."""
    requests: int = Field(1, ge=1)
    """Tries at one address."""
    timeout: Duration = "5s"
    """Wait for each answer."""
    samples: int = Field(1, ge=1)
    """Answered requests that a synchronisation takes."""
    retry: Backoff = Backoff(first="16s")
    """Wait after a server failed, until the next one is asked."""
    first_delay: Duration = "0s"
    """Longest wait before the first request, drawn uniformly."""
    version: Literal[3, 4] = 3
    """NTP version in the packet."""
    poll: int = Field(4, ge=0, le=17)
    """Poll exponent in the packet."""
    stamps: bool = True
    """Send the transmit time; otherwise zero."""
    port: int | None = Field(None, ge=1, le=65535)
    """Source port; null takes a fresh one for each server."""


class Target(Model):
    """What a connectivity check fetches."""

    host: str
    """DNS name, or a dotted address."""
    path: str = "/"
    """What is asked for."""
    status: int = Field(204, ge=100, le=599)
    """The status that proves that the Internet, not a portal, answered."""
    user_agent: str = "Mozilla/5.0"
    """As the request names it."""


class HttpCheck(Scheduled):
    """Fetch a known page over plain HTTP to see whether the Internet is there."""

    behaviour: Literal["http_check"]
    targets: tuple[Target, ...] = Field(min_length=1)
    """Tried in order until one answers as expected."""
    every_offline: Backoff | None = None
    """Waits between checks while the check fails; null keeps to the schedule."""
    all_targets: bool = False
    """Fetch every target in each check, not only up to the first success."""
    keep_open: Duration = "0s"
    """Time the connection stays open after the answer."""
    timeout: Duration = "10s"
    """Wait for the connection, and for the answer."""
    decides: bool = True
    """The check's outcome is the device's belief about being online."""


class Pings(Model):
    """A burst of echo requests to one target."""

    target: str
    """``gateway``, ``resolver`` (the first one of the lease), or a dotted address."""
    count: int = Field(2, ge=1)
    """Echo requests in a burst."""
    interval: Duration = "1s"
    """Time between them."""
    timeout: Duration = "1s"
    """Wait for the last answer."""


class OutageProbe(Habit):
    """While off-line, look for the Internet: names first, then remembered addresses and echo requests."""

    behaviour: Literal["outage_probe"]
    names: tuple[str, ...] = Field(min_length=1)
    """Looked up in turn, one in each round; an answer ends the outage for the device."""
    wait: Backoff
    """Time between rounds, by their number."""
    pings: tuple[Pings, ...] = ()
    """Sent after a failed lookup."""
    pings_every: int = Field(1, ge=1)
    """In each round, or in every n-th only."""
    remembered: tuple[str, ...] = ()
    """Hosts whose last known address is tried on port 80 after a failed lookup."""
    timeout: Duration = "5s"
    """Wait for such a connection."""


class PingCycle(Habit):
    """Echo requests to some targets, in turn, again and again."""

    behaviour: Literal["ping_cycle"]
    targets: tuple[Pings, ...] = Field(min_length=1)
    """One burst after the other."""
    every: Duration = Field(gt=0)
    """Period."""
    first: Duration = "0s"
    """From the device's boot to the first cycle."""
    every_offline: Duration | None = Field(None, gt=0)
    """Period while the device believes itself off-line; null keeps to `every`."""
    names: tuple[str, ...] = ()
    """Looked up after the echo requests of each cycle."""


class GroupMembership(Habit):
    """Be a member of multicast groups (IGMP, RFC 2236 and RFC 3376)."""

    behaviour: Literal["group_membership"]
    groups: tuple[str, ...] = Field(min_length=1)
    """Multicast addresses."""
    join_version: Literal[2, 3] = 3
    """Version of the unsolicited reports; queries are answered in the querier's version."""
    robustness: int = Field(2, ge=1)
    """Unsolicited reports for each join."""
    repeat_within: Duration = "1s"
    """Longest time between these, drawn uniformly (RFC 3376 §8.11; 10 s in version 2)."""
