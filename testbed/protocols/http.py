"""HTTP/1.1 messages (RFC 9112), built and read whole.

Heartbeats repeat identical bytes, so building and reading are cached on their arguments. A
*sized* request says in ``X-Answer-Bytes`` how many bytes its answer shall have in total: that is
how a device model fixes both directions of an exchange, and the fake clouds honour it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from testbed.protocols import WrongSize

ANSWER_BYTES = "x-answer-bytes"
Headers = tuple[tuple[str, str], ...]

_REASONS = {
    200: "OK", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently", 302: "Found",
    304: "Not Modified", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip
_FILLER_HEADER = b"\r\nX-Filler: "
_WITH_BODY = ("POST", "PUT", "PATCH")
_MOST_HEAD = 65536
_CACHED_BYTES = 8192
"""Longer messages are not kept in the caches."""


class Request(NamedTuple):
    """A whole request; header names are in lower case, `length` is its bytes on the wire."""

    method: str
    path: str
    version: str
    headers: dict[str, str]
    body: bytes
    length: int

    @property
    def closes(self) -> bool:
        """Whether the client wants the connection closed after the answer."""
        return _closes(self.version, self.headers)


class Response(NamedTuple):
    """A whole response; header names are in lower case, `length` is its bytes on the wire."""

    status: int
    reason: str
    version: str
    headers: dict[str, str]
    body: bytes
    length: int

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after this."""
        return _closes(self.version, self.headers)


def _closes(version: str, headers: dict[str, str]) -> bool:
    wish = headers.get("connection", "").lower()
    return "close" in wish or (version == "HTTP/1.0" and "keep-alive" not in wish)


@lru_cache(maxsize=4096)
def request(method: str, host: str, path: str = "/", *, headers: Headers = (), body: bytes = b"") -> bytes:
    """Return a request; Content-Length is added where there is a body or the method wants one."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{key}: {value}" for key, value in headers)]
    if body or method in _WITH_BODY:
        lines.append(f"Content-Length: {len(body)}")
    return _head(lines) + body


@lru_cache(maxsize=1024)
def response(status: int, *, headers: Headers = (), body: bytes = b"") -> bytes:
    """Return a response; Content-Length is added except where the status forbids a body."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}",
        *(f"{key}: {value}" for key, value in headers),
    ]
    if _bodiless(status):
        if body:
            raise ValueError(f"a {status} response has no body")
    else:
        lines.append(f"Content-Length: {len(body)}")
    return _head(lines) + body


def _head(lines: list[str]) -> bytes:
    head = "\r\n".join(lines)
    if "\n" in head.replace("\r\n", "") or head.count("\r\n") != len(lines) - 1:
        raise ValueError(f"a line break inside an HTTP header line: {head!r}")
    return head.encode("latin-1") + b"\r\n\r\n"


@lru_cache(maxsize=4096)
def sized_request(
    method: str, host: str, path: str, total_bytes: int, answer_bytes: int, user_agent: str = ""
) -> bytes:
    """Return a request of exactly `total_bytes` that asks for an answer of exactly `answer_bytes`.

    What is missing is filled in the body, or in a header where the method has none. ValueError,
    naming the least possible size, when either size is too small.
    """
    if not LEAST_ANSWER <= answer_bytes <= MOST_ANSWER:
        raise WrongSize(
            f"an HTTP answer has {LEAST_ANSWER} to {MOST_ANSWER} bytes, {answer_bytes} were asked for"
        )
    fixed: Headers = (("User-Agent", user_agent),) if user_agent else ()
    fixed += (("X-Answer-Bytes", str(answer_bytes)),)
    bare = request(method, host, path, headers=fixed)
    missing = total_bytes - len(bare)
    if missing < 0:
        raise WrongSize(
            f"{method} {host}{path} has at least {len(bare)} bytes with these headers, "
            f"{total_bytes} were asked for"
        )
    if method not in _WITH_BODY:
        return _fill_head(bare, missing)
    whole = request(method, host, path, headers=fixed, body=filler(_body_bytes(missing)))
    return _fill_head(whole, total_bytes - len(whole))


def sized_response(
    total_bytes: int, status: int = 200, content_type: str = "application/octet-stream"
) -> bytes:
    """Return a response of exactly `total_bytes`, body filled; ValueError below the least possible.

    A response too small for Server and Content-Type goes without them.
    """
    if total_bytes > MOST_ANSWER:
        raise WrongSize(f"an HTTP answer has at most {MOST_ANSWER} bytes, {total_bytes} were asked for")
    build = _small_response if total_bytes <= _CACHED_BYTES else _large_response
    return build(total_bytes, status, content_type)


def _sized_response(total_bytes: int, status: int, content_type: str) -> bytes:
    least = len(response(status))
    if total_bytes < least:
        raise WrongSize(f"a {status} answer of HTTP has at least {least} bytes, {total_bytes} were asked for")
    if _bodiless(status):
        return _fill_head(response(status), total_bytes - least)
    full: Headers = (("Server", "nginx"), ("Content-Type", content_type))
    headers = full if len(response(status, headers=full)) <= total_bytes else ()
    body = _body_bytes(total_bytes - len(response(status, headers=headers)))
    whole = response(status, headers=headers, body=filler(body))
    return _fill_head(whole, total_bytes - len(whole))


_small_response = lru_cache(maxsize=4096)(_sized_response)
_large_response = lru_cache(maxsize=8)(_sized_response)


def _body_bytes(room: int) -> int:
    """Return the longest body that fits in `room` with what its Content-Length is longer than ``0``."""
    body = room - len(str(room)) + 1
    while body + len(str(body + 1)) <= room:
        body += 1
    return body


def _fill_head(message: bytes, missing: int) -> bytes:
    """Make a message longer without touching its meaning: by a header, or by optional white space."""
    if missing == 0:
        return message
    head, _, rest = message.partition(b"\r\n\r\n")
    if missing >= len(_FILLER_HEADER):
        return head + _FILLER_HEADER + b"0" * (missing - len(_FILLER_HEADER)) + b"\r\n\r\n" + rest
    at = head.find(b": ") + 1 or len(head)  # optional white space before a field value (RFC 9112 §5)
    return head[:at] + b" " * missing + head[at:] + b"\r\n\r\n" + rest


def filler(length: int) -> bytes:
    """Return `length` bytes of body."""
    pattern = b"0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ."
    return (pattern * (length // len(pattern) + 1))[:length]


def _bodiless(status: int) -> bool:
    return status in (204, 304) or 100 <= status < 200


LEAST_ANSWER = len(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
MOST_ANSWER = 1 << 28
"""Bytes; an answer is made in memory."""


@lru_cache(maxsize=4096)
def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Return the three parts of the first line, and the headers."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) == 2 and first.startswith("HTTP/"):
        parts.append("")  # the reason phrase may be left out
    if len(parts) != 3:
        raise ValueError(f"not an HTTP message: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError(f"not an HTTP header: {line[:80]!r}")
        headers[name.lower()] = value.strip()
    return parts[0], parts[1], parts[2], headers


def _split(data: bytes) -> tuple[bytes, int] | None:
    """Return the head and where the body begins, None while the head is not whole."""
    end = data.find(b"\r\n\r\n", 0, _MOST_HEAD)
    if end >= 0:
        return data[:end], end + 4
    if len(data) >= _MOST_HEAD:
        raise ValueError("an HTTP head longer than 64 KiB")
    return None


def _body_end(data: bytes, start: int, headers: dict[str, str], default: int | None) -> int | None:
    """Return where the body ends (`default` when no header says), None while it is not whole."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _chunks_end(data, start)
    length = headers.get("content-length")
    if length is None:
        return default
    if not (length.isascii() and length.isdigit()):
        raise ValueError(f"not a Content-Length: {length[:40]!r}")
    end = start + int(length)
    return end if end <= len(data) else None


def _chunks_end(data: bytes, at: int) -> int | None:
    while (line_end := data.find(b"\r\n", at)) >= 0:
        digits = data[at:line_end].split(b";")[0].strip()
        try:
            size = int(digits, 16)
        except ValueError:
            raise ValueError(f"not a chunk size: {digits[:20]!r}") from None
        if size < 0:
            raise ValueError(f"not a chunk size: {digits[:20]!r}")
        if size == 0:
            end = data.find(b"\r\n\r\n", line_end)
            return end + 4 if end >= 0 else None
        at = line_end + 2 + size + 2
        if at > len(data):
            return None
    return None


def _chunked_body(data: bytes, at: int, end: int) -> bytes:
    pieces = []
    while at < end:
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end].split(b";")[0], 16)
        if size == 0:
            break
        pieces.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + 2 + size + 2
    return b"".join(pieces)


def _body(data: bytes, start: int, end: int, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _chunked_body(data, start, end)
    return data[start:end]


def next_request(data: bytes) -> Request | None:
    """Return the first request in `data`, None while it is not whole, ValueError if it is no HTTP.

    `length` of the result says where the next one begins.
    """
    return _cached_request(data) if len(data) <= _CACHED_BYTES else _next_request(data)


def _next_request(data: bytes) -> Request | None:
    split = _split(data)
    if split is None:
        if data and not data[:1].isalpha():
            raise ValueError(f"not an HTTP request: {data[:20]!r}")
        return None
    head, start = split
    method, path, version, headers = _parse_head(head)
    if version not in ("HTTP/1.1", "HTTP/1.0") or not method.isalpha() or not path:
        raise ValueError(f"not an HTTP request: {head[:80]!r}")
    end = _body_end(data, start, headers, start)
    if end is None:
        return None
    return Request(method, path, version, headers, _body(data, start, end, headers), end)


_cached_request = lru_cache(maxsize=4096)(_next_request)


def parse_request(data: bytes) -> Request:
    """Return the request that `data` begins with; ValueError if it is none or not whole."""
    found = next_request(data)
    if found is None:
        raise ValueError("an HTTP request that is not whole")
    return found


def next_response(data: bytes, ended: bool = False) -> Response | None:
    """Return the first response in `data`, None while it is not whole, ValueError if it is no HTTP.

    A body whose length no header says lasts until the connection `ended`.
    """
    split = _split(data)
    if split is None:
        if not b"HTTP/".startswith(data[:5]) and not data.startswith(b"HTTP/"):
            raise ValueError(f"not an HTTP response: {data[:20]!r}")
        return None
    head, start = split
    version, status, reason, headers = _parse_head(head)
    if (
        version not in ("HTTP/1.1", "HTTP/1.0")
        or len(status) != 3
        or not (status.isascii() and status.isdigit())
    ):
        raise ValueError(f"not an HTTP response: {head[:80]!r}")
    number = int(status)
    end: int | None = start
    if not _bodiless(number):
        end = _body_end(data, start, headers, len(data) if ended else None)
    if end is None:
        return None
    return Response(number, reason, version, headers, _body(data, start, end, headers), end)


def parse_response(data: bytes) -> Response:
    """Return the response that `data` begins with; ValueError if it is none or not whole."""
    found = next_response(data, ended=True)
    if found is None:
        raise ValueError("an HTTP response that is not whole")
    return found


def complete_response(data: bytes) -> bool:
    """Tell whether `data` holds a whole response; ValueError if it cannot become one.

    An interim response (1xx) is not one; a body without a stated length never completes here.
    """
    return _cached_complete(data) if len(data) <= _CACHED_BYTES else _complete(data)


def _complete(data: bytes) -> bool:
    at = 0
    while (found := _next_end(data[at:] if at else data)) is not None:
        status, length = found
        if status >= 200:
            return True
        at += length
    return False


def _next_end(data: bytes) -> tuple[int, int] | None:
    """Return (status, bytes) of a whole response, without copying its body."""
    split = _split(data)
    if split is None:
        next_response(data)  # refuses what is no HTTP
        return None
    head, start = split
    _, status, _, headers = _parse_head(head)
    if not head.startswith(b"HTTP/1.") or not (status.isascii() and status.isdigit()):
        raise ValueError(f"not an HTTP response: {head[:80]!r}")
    end = start if _bodiless(int(status)) else _body_end(data, start, headers, None)
    return None if end is None else (int(status), end)


_cached_complete = lru_cache(maxsize=4096)(_complete)
