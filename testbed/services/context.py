"""What a service is told of the place it runs at."""

from __future__ import annotations

from dataclasses import dataclass, field

from testbed.services.zone import Zone


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """Where a service runs: its name in the topology, its own address, and what the DNS knows."""

    name: str
    address: str = ""
    names: tuple[str, ...] = ()
    """DNS names that lead to it."""
    zone: Zone = field(default_factory=Zone)
    """All names of the fake Internet, for a resolver."""
