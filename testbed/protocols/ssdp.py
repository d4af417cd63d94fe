"""SSDP messages (UPnP Device Architecture 1.1 §1): discovery by HTTP lines over UDP multicast."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

GROUP = "239.255.255.250"
PORT = 1900
TTL = 2


class Ssdp(NamedTuple):
    """A message as read; header names are in lower case."""

    kind: str
    """M-SEARCH, NOTIFY or 200."""
    headers: dict[str, str]

    @property
    def target(self) -> str:
        """What is searched for (ST) or announced (NT)."""
        return self.headers.get("st" if self.kind != "NOTIFY" else "nt", "")


def _lines(first: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    return "\r\n".join((first, *(f"{key}: {value}" for key, value in headers), "", "")).encode()


@lru_cache(maxsize=1024)
def search(target: str = "ssdp:all", mx_s: int = 3, user_agent: str = "") -> bytes:
    """Return an M-SEARCH for `target` that may be answered within `mx_s`."""
    headers = [("HOST", f"{GROUP}:{PORT}"), ("MAN", '"ssdp:discover"'), ("MX", str(mx_s)), ("ST", target)]
    if user_agent:
        headers.append(("USER-AGENT", user_agent))
    return _lines("M-SEARCH * HTTP/1.1", tuple(headers))


@lru_cache(maxsize=1024)
def alive(target: str, usn: str, location: str, server: str, max_age_s: int = 1800) -> bytes:
    """Return a NOTIFY that `target` is there for `max_age_s`."""
    return _lines("NOTIFY * HTTP/1.1", (
        ("HOST", f"{GROUP}:{PORT}"), ("CACHE-CONTROL", f"max-age={max_age_s}"), ("LOCATION", location),
        ("SERVER", server), ("NT", target), ("NTS", "ssdp:alive"), ("USN", usn),
    ))  # fmt: skip


@lru_cache(maxsize=1024)
def byebye(target: str, usn: str) -> bytes:
    """Return a NOTIFY that `target` goes away."""
    return _lines(
        "NOTIFY * HTTP/1.1",
        (("HOST", f"{GROUP}:{PORT}"), ("NT", target), ("NTS", "ssdp:byebye"), ("USN", usn)),
    )


@lru_cache(maxsize=1024)
def answer(target: str, usn: str, location: str, server: str, max_age_s: int = 1800) -> bytes:
    """Return the unicast answer to an M-SEARCH for `target`."""
    return _lines("HTTP/1.1 200 OK", (
        ("CACHE-CONTROL", f"max-age={max_age_s}"), ("EXT", ""), ("LOCATION", location),
        ("SERVER", server), ("ST", target), ("USN", usn),
    ))  # fmt: skip


def parse(data: bytes) -> Ssdp:
    """Return the message; ValueError if it is no SSDP."""
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if words[0] in ("M-SEARCH", "NOTIFY") and words[1:] == ["*", "HTTP/1.1"]:
        kind = words[0]
    elif words[:2] == ["HTTP/1.1", "200"]:
        kind = "200"
    else:
        raise ValueError(f"not an SSDP message: {first[:60]!r}")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Ssdp(kind, headers)
