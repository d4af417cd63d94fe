"""Manufacturers' clouds and plain web servers: HTTP/1.1 over a connection.

Whether TLS lies below is the world's affair (`cloud` is served inside TLS, `web` is not). A request
says by ``X-Answer-Bytes`` how long its answer shall be; others are answered by path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from testbed.host import Answer, Datagram
from testbed.models.base import Model
from testbed.models.units import Duration, Size
from testbed.protocols import http

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.services.context import ServiceContext

_MOST_REMEMBERED = 4096
_MOST_REMEMBERED_BYTES = 8192
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Page(Model):
    """What stands under one path."""

    status: int = Field(200, ge=200, le=599)
    """HTTP status."""
    bytes: Size | None = Field(None, gt=0)
    """Size of the whole answer, head included; null is `body` with an ordinary head."""
    body: str = ""
    """The body, where its text matters."""
    think: Duration | None = None
    """Time until the answer; null is the server's."""

    @model_validator(mode="after")
    def _possible(self) -> Page:
        if self.bytes is not None and self.body:
            raise ValueError("a page has either `bytes` or a `body`, not both")
        if self.bytes is not None:
            http.sized_response(self.bytes, self.status)  # refuses a size that cannot be
        elif self.body:
            http.response(self.status, body=self.body.encode())
        return self


class WebOptions(Model):
    """A web server."""

    think: Duration = "20ms"
    """Time until it answers."""
    paths: dict[str, Page] = {}
    """Path (without the query part) -> page; ``*`` answers for every other path."""


class Web:
    """An HTTP server; equal requests get equal answers."""

    def __init__(self, options: WebOptions, context: ServiceContext) -> None:
        self._options = options
        self.remembered: dict[bytes, Answer] = {}
        """Whole requests seen before -> their answers (shared: treat them as read-only)."""

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Stay silent: HTTP has no datagrams here."""
        return ()

    def session(self, peer: tuple[str, int], now: float) -> WebSession:
        """Open a connection."""
        return WebSession(self)

    def answer(self, request: http.Request) -> Answer:
        """Return the answer to one whole request."""
        page = self._page(request.path.partition("?")[0])
        think_s = self._options.think
        if page is not None and page.think is not None:
            think_s = page.think
        return Answer(self._response(request, page), think_s, request.closes)

    def _page(self, path: str) -> Page | None:
        return self._options.paths.get(path) or self._options.paths.get("*")

    def _response(self, request: http.Request, page: Page | None) -> bytes:
        if request.method not in _METHODS:
            return http.response(405, headers=(("Allow", ", ".join(_METHODS)),))
        wished = request.headers.get(http.ANSWER_BYTES)
        if wished is not None:
            try:
                return http.sized_response(int(wished), page.status if page else 200)
            except ValueError as error:
                return http.response(400, body=str(error).encode())
        if page is None:
            return http.response(404, body=b"not found\n")
        if page.bytes is not None:
            return http.sized_response(page.bytes, page.status)
        return http.response(page.status, body=page.body.encode())


class WebSession:
    """One connection to a web server."""

    def __init__(self, server: Web) -> None:
        self._server = server
        self._buffer = b""
        self._closed = False

    def receive(self, data: bytes, now: float) -> Answer | None:
        """Answer what whole requests there are; what is no HTTP gets 400 and the end."""
        if self._closed:
            return None
        if not self._buffer:
            known = self._server.remembered.get(data)
            if known is not None:
                self._closed = known.close
                return known
        self._buffer += data
        return self._answer_buffered(data)

    def _answer_buffered(self, data: bytes) -> Answer | None:
        given: list[Answer] = []
        while self._buffer and not self._closed:
            try:
                request = http.next_request(self._buffer)
            except ValueError as error:
                refusal = http.response(400, headers=(("Connection", "close"),), body=f"{error}\n".encode())
                given.append(Answer(refusal, 0.0, True))
                self._closed, self._buffer = True, b""
                break
            if request is None:
                break
            answer = self._server.answer(request)
            given.append(answer)
            self._remember(data, request, answer)
            self._buffer = self._buffer[request.length :]
            self._closed = answer.close
        if len(given) == 1:
            return given[0]
        if not given:
            return None
        whole = b"".join(answer.data for answer in given)
        return Answer(whole, max(answer.think_s for answer in given), given[-1].close)

    def _remember(self, data: bytes, request: http.Request, answer: Answer) -> None:
        """Keep the answer when `data` was just this request."""
        known = self._server.remembered
        if self._buffer == data and request.length == len(data) <= _MOST_REMEMBERED_BYTES:
            if len(known) >= _MOST_REMEMBERED:
                del known[next(iter(known))]
            known[data] = answer
