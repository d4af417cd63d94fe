"""HTTP: sizes are exact, messages are read as http.client reads them."""

from __future__ import annotations

import io
from http.client import HTTPResponse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.protocols import http


class Wire(io.BytesIO):
    """What http.client takes for a socket."""

    def makefile(self, mode: str) -> Wire:
        return self


@given(st.sampled_from(["POST", "PUT", "GET", "DELETE"]), st.integers(120, 12000), st.integers(38, 10**6))
def test_a_sized_request_has_exactly_its_size(method: str, total: int, answer: int) -> None:
    data = http.sized_request(method, "hub.example", "/v1/beat", total, answer, "hub/1.0")
    read = http.parse_request(data)
    assert len(data) == total == read.length
    assert (read.method, read.path, read.headers["host"]) == (method, "/v1/beat", "hub.example")
    assert read.headers[http.ANSWER_BYTES] == str(answer)
    assert len(read.body) == int(read.headers.get("content-length", 0))


@given(st.integers(45, 12000) | st.integers(99_900, 100_300), st.sampled_from([200, 404]))
def test_a_sized_response_has_exactly_its_size_and_http_client_reads_it(total: int, status: int) -> None:
    data = http.sized_response(total, status)
    assert len(data) == total
    theirs = HTTPResponse(Wire(data))  # type: ignore[arg-type]
    theirs.begin()
    assert theirs.status == status
    body = theirs.read()
    assert http.parse_response(data).body == body
    assert http.complete_response(data)
    assert not http.complete_response(data[:-1])


def test_every_size_near_a_longer_content_length_can_be_made() -> None:
    for total in (*range(38, 400), *range(1050, 1100), *range(10_060, 10_110)):
        assert len(http.sized_response(total)) == total
    for total in (*range(120, 400), *range(1080, 1120)):
        assert len(http.sized_request("POST", "h", "/", total, 38)) == total


def test_a_size_too_small_names_the_least_bytes() -> None:
    with pytest.raises(ValueError, match="at least 85 bytes"):
        http.sized_request("POST", "hub.example", "/v1/beat", 84, 400)
    assert len(http.sized_request("POST", "hub.example", "/v1/beat", 85, 400)) == 85
    with pytest.raises(ValueError, match="38 to 268435456 bytes"):
        http.sized_request("GET", "hub.example", "/", 500, 37)
    with pytest.raises(ValueError, match="at least 38 bytes"):
        http.sized_response(37)


def test_the_connectivity_checks_empty_answer() -> None:
    data = http.response(204)
    assert data == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert http.complete_response(data)
    with pytest.raises(ValueError, match="no body"):
        http.response(204, body=b"x")


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", False),
    ],
)
def test_an_answer_is_complete_when_its_last_byte_is_there(data: bytes, whole: bool) -> None:
    assert http.complete_response(data) is whole


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\n name: x\r\n\r\n",
        b"HTTP/1.1 " + b"x" * 70000,
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        http.complete_response(data)


def test_a_header_cannot_smuggle_in_another() -> None:
    with pytest.raises(ValueError, match="line break"):
        http.request("GET", "h", headers=(("X", "a\r\nY: b"),))
