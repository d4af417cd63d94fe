"""Web servers, Weave, the push channel, local control, and the registry of kinds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import UserError
from testbed.host import Answer, Session
from testbed.protocols import gcm, http, tplink, weave
from testbed.services import ServiceContext
from testbed.services.registry import KINDS, build

PEER = ("192.168.1.9", 4000)
CHECK_IN = weave.message(150, source=1, destination=2, message_id=3, exchange_id=4, answer_bytes=90)


def connect(kind: str, **options: Any) -> Session:
    return build(kind, options, ServiceContext(kind)).session(PEER, 0.0)


def test_the_cloud_answers_in_the_size_asked_for() -> None:
    request = http.sized_request("POST", "hub.example", "/beat", 600, 450)
    answer = connect("cloud", think="15ms").receive(request, 0.0)
    assert answer is not None
    assert (len(answer.data), answer.think_s, answer.close) == (450, 0.015, False)
    assert http.complete_response(answer.data)


def test_pages_answer_by_path() -> None:
    web = build("web", {
        "paths": {
            "/generate_204": {"status": 204, "think": "1ms"},
            "/image.bin": {"bytes": "200kB"},
            "/ok": {"body": "success"},
            "*": {"status": 302, "bytes": "300B"},
        },
    }, ServiceContext("check"))  # fmt: skip
    session = web.session(PEER, 0.0)

    def get(path: str) -> Answer:
        answer = session.receive(http.request("GET", "h", path), 0.0)
        assert answer is not None
        return answer

    assert get("/generate_204") == Answer(b"HTTP/1.1 204 No Content\r\n\r\n", 0.001)
    assert len(get("/image.bin?x=1").data) == 200_000
    assert http.parse_response(get("/ok").data).body == b"success"
    other = get("/else").data
    assert (http.parse_response(other).status, len(other)) == (302, 300)


def test_what_a_web_server_does_not_know_is_404_and_what_is_no_http_ends_it() -> None:
    session = connect("web")
    missing = session.receive(http.request("GET", "h", "/nowhere"), 0.0)
    assert missing is not None and http.parse_response(missing.data).status == 404
    wrong = session.receive(b"\x16\x03\x01\x02\x00\x01", 0.0)
    assert wrong is not None and wrong.close
    assert http.parse_response(wrong.data).status == 400
    assert session.receive(http.request("GET", "h"), 0.0) is None


def test_a_wish_that_cannot_be_is_400() -> None:
    for wish in ("5", "9" * 30, "many"):
        answer = connect("web").receive(http.request("GET", "h", headers=(("X-Answer-Bytes", wish),)), 0.0)
        assert answer is not None and http.parse_response(answer.data).status == 400


def test_connection_close_is_honoured() -> None:
    session = connect("web")
    request = http.request("GET", "h", headers=(("X-Answer-Bytes", "100"), ("Connection", "close")))
    answer = session.receive(request, 0.0)
    assert answer is not None and answer.close
    assert session.receive(request, 0.0) is None


@given(st.lists(st.integers(1, 200), min_size=1, max_size=9), st.integers(1, 3))
def test_a_stream_cut_anywhere_gets_the_same_answers(cuts: list[int], count: int) -> None:
    cases = {
        "web": (http.sized_request("POST", "h", "/", 300, 200), b"", 200 * count),
        "weave": (CHECK_IN, b"", 90 * count),
        "gcm": (gcm.heartbeat_ping(), gcm.login_request(1, 2), None),
        "local_control": (tplink.message(tplink.GET_REALTIME), b"", None),
    }  # fmt: skip
    for kind, (message, first, expected) in cases.items():
        whole, pieces = connect(kind), connect(kind)
        stream = first + message * count
        answer = whole.receive(stream, 5.0)
        assert answer is not None
        found, at, turn = b"", 0, 0
        while at < len(stream):
            size = cuts[turn % len(cuts)]
            part = pieces.receive(stream[at : at + size], 5.0)
            found += part.data if part is not None else b""
            at, turn = at + size, turn + 1
        assert found == answer.data
        assert expected is None or len(found) == expected


def test_the_push_channel_wants_a_login_first() -> None:
    session = connect("gcm")
    login = session.receive(gcm.login_request(1234, 5678), 1.5e9)
    assert login is not None
    read = gcm.parse(login.data, first=True)
    assert (read.tag, read.first(8)) == (gcm.LOGIN_RESPONSE, 1_500_000_000_000)
    ack = session.receive(gcm.heartbeat_ping(), 1.5e9)
    assert ack is not None and gcm.parse(ack.data).tag == gcm.HEARTBEAT_ACK
    early = connect("gcm").receive(gcm.frame(gcm.HEARTBEAT_PING, first=True), 0.0)
    assert early is not None and early.close and early.data == b""


def test_weave_closes_on_garbage() -> None:
    answer = connect("weave").receive(b"\x02\x00abc", 0.0)
    assert answer is not None and answer.close


def test_the_plug_switches_and_tells_its_state_over_tcp_and_udp() -> None:
    plug = build("local_control", {"alias": "kettle"}, ServiceContext("plug"))
    session = plug.session(PEER, 0.0)
    switched = session.receive(tplink.message(tplink.set_relay(False)), 0.0)
    assert switched is not None
    assert tplink.parse(switched.data) == {"system": {"set_relay_state": {"err_code": 0}}}
    (told,) = plug.handle(tplink.datagram(tplink.GET_SYSINFO), PEER, 0.0)
    known = tplink.parse_datagram(told.data)["system"]["get_sysinfo"]
    assert (known["alias"], known["relay_state"]) == ("kettle", 0)
    (unknown,) = plug.handle(tplink.datagram({"cnCloud": {"bind": {}}}), PEER, 0.0)
    assert tplink.parse_datagram(unknown.data)["cnCloud"]["err_code"] == -1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_works_without_options(kind: str) -> None:
    service = build(kind, {}, ServiceContext(kind))
    service.handle(b"", PEER, 0.0)
    service.session(PEER, 0.0).receive(b"", 0.0)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("clowd", {}, "no service kind 'clowd': did you mean 'cloud'"),
        ("ntp", {"stratums": 2}, r"service 'x' \(ntp\): stratums: .*did you mean 'stratum'"),
        ("ntp", {"stratum": 99}, "stratum: Input should be less than or equal to 15"),
        ("web", {"think": 5}, "think: Value error, needs a unit"),
        ("web", {"paths": {"/": {"bytes": "20B"}}}, "has at least 38 bytes, 20 were asked for"),
        ("web", {"paths": {"/": {"bytes": "200B", "body": "x"}}}, "either `bytes` or a `body`"),
    ],
)
def test_wrong_kinds_and_options_are_refused_in_words(kind: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(kind, options, ServiceContext("x"))
