"""NTP: ntplib, as a client, reads our packets; a client takes only what answers its request."""

from __future__ import annotations

import ntplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.protocols import ntp

NOW = 1_522_746_000.25
TIMES = st.floats(0, 2e9)


@given(TIMES, st.integers(1, 4), st.integers(0, 17))
def test_a_request_is_what_ntplib_would_send(now: float, version: int, poll: int) -> None:
    theirs = ntplib.NTPPacket(version=version, mode=3, tx_timestamp=now + ntp.UNIX_EPOCH_NTP)
    theirs.poll = poll
    read = ntp.decode(ntp.request(version, poll, now))
    assert (read.version, read.mode, read.poll) == (version, 3, poll)
    assert ntp.request(version, poll)[:40] == theirs.to_data()[:40]
    assert ntp.transmit_time(ntp.request(version, poll, now), now) == pytest.approx(now, abs=1e-6)


def test_some_clients_leave_the_transmit_time_zero() -> None:
    assert ntp.request(3, 4) == bytes((3 << 3 | 3, 0, 4)) + bytes(45)


@given(TIMES, TIMES)
def test_a_reply_tells_the_time_and_repeats_the_request(asked: float, now: float) -> None:
    request = ntp.request(3, 6, asked)
    answer = ntp.reply(request, now, 2, "198.18.4.5")
    read = ntplib.NTPStats()
    read.from_data(answer)
    assert len(answer) == 48
    assert (read.mode, read.version, read.stratum, read.poll) == (4, 3, 2, 6)
    assert ntplib.ref_id_to_text(read.ref_id, 2) == "198.18.4.5"
    assert answer[24:32] == request[40:48]
    assert ntp.transmit_time(answer, now) == pytest.approx(now, abs=1e-6)
    assert 0 <= read.tx_timestamp - read.ref_timestamp <= 64 or now > 2**32 - ntp.UNIX_EPOCH_NTP - 64


def test_a_good_reply_is_sane() -> None:
    request = ntp.request(3, 4, NOW)
    assert ntp.sane(ntp.reply(request, NOW + 0.03), request)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (ntp.reply(ntp.request(3, 4, NOW), NOW, 0, "RATE"), "kiss-o'-death RATE"),
        (ntp.reply(ntp.request(3, 4, NOW - 1), NOW), "not the answer to this request"),
        (ntp.reply(ntp.request(3, 4, NOW), NOW, 16), "server not synchronised"),
        (ntp.request(3, 4, NOW), "wrong mode"),
        (ntp.reply(ntp.request(3, 4, NOW), NOW)[:40], "short"),
        (ntp.reply(ntp.request(3, 4, NOW), NOW)[:40] + bytes(8), "no time in it"),
    ],
)
def test_a_reply_with_a_flaw_is_named(reply: bytes, why: str) -> None:
    assert ntp.flaw(reply, ntp.request(3, 4, NOW)) == why


def test_the_second_era_is_understood() -> None:
    after_2036 = 2_200_000_000.5
    answer = ntp.reply(ntp.request(4, 4, after_2036), after_2036)
    assert ntp.transmit_time(answer, after_2036) == after_2036


def test_only_a_clients_request_is_answered() -> None:
    with pytest.raises(ValueError, match="not an NTP client request"):
        ntp.reply(ntp.reply(ntp.request(3), NOW), NOW)
