"""The kinds of service that topologies and device models may name.

Other packages add kinds through the entry point group ``testbed.services``: an entry's name is the
kind, its value a `Kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from testbed.errors import UserError, nearest
from testbed.models.base import Model
from testbed.services.broker import Broker, BrokerOptions
from testbed.services.datagrams import Ntp, NtpOptions, Resolver, ResolverOptions
from testbed.services.dhcp_server import DhcpServer, DhcpServerOptions
from testbed.services.streams import (
    Gcm,
    GcmOptions,
    LocalControl,
    LocalControlOptions,
    Weave,
    WeaveOptions,
)
from testbed.services.web import Web, WebOptions

if TYPE_CHECKING:
    from testbed.host import Service
    from testbed.services.context import ServiceContext

GROUP = "testbed.services"


class Kind(NamedTuple):
    """A kind of service: its typed options, how to make it, and whether TLS lies below it."""

    options: type[Model]
    make: Callable[[Any, ServiceContext], Service]
    tls: bool = False


_BUILT_IN = {
    "resolver": Kind(ResolverOptions, Resolver),
    "ntp": Kind(NtpOptions, Ntp),
    "cloud": Kind(WebOptions, Web, tls=True),
    "web": Kind(WebOptions, Web),
    "http_api": Kind(WebOptions, Web),
    "broker": Kind(BrokerOptions, Broker),
    "weave": Kind(WeaveOptions, Weave),
    "gcm": Kind(GcmOptions, Gcm, tls=True),
    "local_control": Kind(LocalControlOptions, LocalControl),
    "dhcp_server": Kind(DhcpServerOptions, DhcpServer),
}


@cache
def kinds() -> Mapping[str, Kind]:
    """Return every kind, built in and added; UserError when an added one is broken."""
    found = dict(_BUILT_IN)
    for entry in entry_points(group=GROUP):
        kind = entry.load()
        if not isinstance(kind, Kind):
            raise UserError(f"entry point '{entry.name}' of {GROUP} is {kind!r}, not a Kind")
        found[entry.name] = kind
    return found


class _OptionTypes(Mapping[str, type[Model]]):
    """Kind -> its options' type, entry points read at the first look."""

    def __getitem__(self, kind: str) -> type[Model]:
        return kinds()[kind].options

    def __iter__(self) -> Iterator[str]:
        return iter(kinds())

    def __len__(self) -> int:
        return len(kinds())


KINDS: Mapping[str, type[Model]] = _OptionTypes()
"""Kind -> the type of its options."""


def kind_of(name: str) -> Kind:
    """Return the kind of that name; UserError naming the nearest when there is none."""
    known = kinds()
    if name not in known:
        raise UserError(f"there is no service kind '{name}': {nearest(name, known)}")
    return known[name]


def build(kind: str, options: Mapping[str, Any], context: ServiceContext) -> Service:
    """Return a service of that kind; UserError when the kind or an option is wrong."""
    chosen = kind_of(kind)
    try:
        return chosen.make(chosen.options.model_validate(dict(options)), context)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "options"
        hint = f"; {nearest(str(first['loc'][-1]), chosen.options.model_fields)}" if first["loc"] else ""
        told = hint if first["type"] == "extra_forbidden" else ""
        raise UserError(f"service '{context.name}' ({kind}): {where}: {first['msg']}{told}") from None
