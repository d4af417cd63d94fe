"""What both worlds take for Linux: delayed ACKs, loss probes, patience, the limit on ICMP errors."""

from __future__ import annotations

import pytest

from testbed.kernel.acks import AckPolicy
from testbed.kernel.icmp_limit import ErrorBucket
from testbed.kernel.keepalive import interval_s
from testbed.kernel.neighbours import Lifetimes
from testbed.kernel.retransmission import loss_probe_ns, patience_ns

MS, S = 1_000_000, 1_000_000_000
RTO = 230 * MS
WINDOW = 29_200


def small(policy: AckPolicy, now: int, size: int = 100) -> bool:
    return policy.received(now, RTO, size, 32, push=True)


def full(policy: AckPolicy, now: int) -> bool:
    return policy.received(now, RTO, 1448, 32, push=False)


# --- acknowledgements --------------------------------------------------------------------------


def test_the_first_data_is_acknowledged_at_once() -> None:
    assert small(AckPolicy(40 * MS, WINDOW), 0)


def test_a_download_has_every_segment_acknowledged_at_first_and_then_every_other() -> None:
    """Linux takes half the window's segments for its quick mode: ten of 1448 bytes."""
    policy = AckPolicy(40 * MS, WINDOW)
    said = []
    for number in range(16):
        said.append(full(policy, number * MS))
        if said[-1]:
            policy.sent(number * MS, data=False)
    assert said == [True] * 10 + [False, True] * 3


def test_a_small_window_is_quick_for_fewer_segments() -> None:
    policy = AckPolicy(40 * MS, 5840)
    said = []
    for number in range(5):
        said.append(full(policy, number * MS))
        if said[-1]:
            policy.sent(number * MS, data=False)
    assert said == [True, True, False, True, False]


def test_a_server_that_answers_at_once_carries_its_acks_in_the_answers() -> None:
    policy = AckPolicy(40 * MS, WINDOW)
    assert small(policy, 0)
    policy.sent(0, data=False)
    policy.sent(1 * MS, data=True)
    assert not small(policy, 30 * S)
    assert policy.delay_ns(srtt_ns=30 * MS) == 40 * MS


def test_two_small_segments_are_acknowledged_even_when_answers_are_expected() -> None:
    policy = AckPolicy(40 * MS, WINDOW)
    small(policy, 0)
    policy.sent(0, data=False)
    policy.sent(1 * MS, data=True)
    assert not small(policy, 30 * S)
    assert small(policy, 30 * S + MS)


def test_a_client_that_asks_after_pauses_acknowledges_at_once() -> None:
    policy = AckPolicy(40 * MS, WINDOW)
    for second in range(20):
        policy.sent(second * S, data=True)
        assert small(policy, second * S + 30 * MS)
        policy.sent(second * S + 30 * MS, data=False)


def test_a_delayed_ack_that_nothing_carried_ends_the_interactive_mode() -> None:
    policy = AckPolicy(40 * MS, WINDOW)
    small(policy, 0)
    policy.sent(0, data=True)
    assert not small(policy, 10 * MS)
    policy.missed(RTO)
    policy.sent(50 * MS, data=False)
    assert small(policy, 60 * MS)


def test_a_delay_that_is_nearly_over_is_not_prolonged() -> None:
    policy = AckPolicy(40 * MS, WINDOW)
    small(policy, 0)
    policy.sent(0, data=True)
    small(policy, 0)
    assert policy.delay_ns(0, left_ns=9 * MS) == 0
    assert policy.delay_ns(0, left_ns=30 * MS) == 30 * MS


@pytest.mark.parametrize("pause", [50 * MS, 300 * MS, 10 * S])
def test_a_policy_goes_on_from_its_state_as_if_it_had_not_been_put_down(pause: int) -> None:
    one = AckPolicy(40 * MS, WINDOW)
    for number in range(3):
        small(one, number * 8 * MS, 900)
        one.sent(number * 8 * MS, data=number == 1)
    state = one.state(0).later(16 * MS + pause)
    other = AckPolicy(40 * MS, WINDOW, state.rested() if pause > RTO else state, 16 * MS + pause)
    for later in range(4):
        now = 16 * MS + pause + later * 12 * MS
        assert small(one, now) == small(other, now)
        if later % 2:
            one.sent(now, data=True)
            other.sent(now, data=True)


# --- the other rules ---------------------------------------------------------------------------


def test_a_loss_probe_comes_after_two_round_trips_or_in_place_of_the_timeout() -> None:
    assert loss_probe_ns(30 * MS, RTO, 200 * MS, segments=3) == 68 * MS
    assert loss_probe_ns(30 * MS, RTO, 200 * MS, segments=1) == RTO
    assert loss_probe_ns(0, 5 * S, 200 * MS, segments=1) == S


def test_patience_is_the_time_of_so_many_doublings() -> None:
    """Linux documents 924.6 s for its fifteen retries (ip-sysctl, tcp_retries2)."""
    assert patience_ns(15, 200 * MS, 120 * S) == 924_600 * MS
    assert patience_ns(3, 200 * MS, 120 * S) == 3 * S


def test_a_probe_is_repeated_after_75_seconds_or_as_often_as_the_firmware_probes() -> None:
    assert (interval_s(60), interval_s(7200)) == (60, 75)


def test_an_error_without_a_route_takes_two_tokens() -> None:
    """Measured on a kernel in real time: of 40 packets 250 ms apart, the first two get an error."""
    bucket = ErrorBucket()
    assert [n for n in range(40) if bucket.allows(n * 250 * MS, no_route=True)] == [0, 1]


def test_other_errors_come_six_at_once_then_one_a_second() -> None:
    bucket = ErrorBucket()
    assert sum(bucket.allows(0, no_route=False) for _ in range(20)) == 6
    assert sum(bucket.allows(S, no_route=False) for _ in range(5)) == 1
    assert sum(bucket.allows(1000 * S, no_route=False) for _ in range(20)) == 6


def test_lifetimes_are_drawn_anew_every_five_minutes() -> None:
    lifetimes = Lifetimes(30 * S, lambda index: (index % 2) / 2)
    assert [lifetimes.at(minute * 60 * S) // S for minute in range(11)] == [15] * 5 + [30] * 5 + [15]
