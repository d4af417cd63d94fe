"""TCP between two simulated kernels: whatever is lost, the bytes arrive or the outcome says why."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.kernel.acks import AckState
from testbed.models.device import TcpStack
from testbed.simulation.plans import (
    ACK,
    CLIENT,
    FIN,
    RST,
    SERVER,
    SYN,
    Fate,
    Message,
    Plan,
    Played,
    Stack,
    Steady,
)
from testbed.simulation.tcp import play

MS, S = 1_000_000, 1_000_000_000
LAN, WAN = 2 * MS, 20 * MS
LINUX = Stack.of(TcpStack())
SMALL = Stack.of(
    TcpStack(
        window=5840, window_scale=None, timestamps=False, sack=False, syn_timeout="3s", syn_retries=5,
        initial_window=2,
    )
)  # fmt: skip
SERVERS = Stack.of(TcpStack(window=28_960, window_scale=7))
FOREVER = 1 << 61


class Lossy:
    """A path that loses the segments it is told to, and remembers what arrived when."""

    def __init__(
        self, lan: int, wan: int, losses: tuple[set[int], set[int]], *, before: bool = False
    ) -> None:
        self.lan, self.wan, self.losses = lan, wan, losses
        self.before = before
        """Whether what is lost is lost before the capture point, and so not seen there."""
        self.sent = [0, 0]
        self.arrivals: list[tuple[int, int]] = []
        """Of each captured segment, by its side and its number there: when it arrived."""
        self.log: dict[tuple[int, int], int] = {}
        self.answers: bool | None = True

    def _fate(self, side: int, captured: int, arrives: int) -> Fate:
        number = self.sent[side]
        self.sent[side] += 1
        if number in self.losses[side]:
            return Fate(None if self.before else captured, None)
        self.log[side, captured] = arrives
        return Fate(captured, arrives)

    def up(self, at: int, size: int) -> Fate:
        return self._fate(CLIENT, at + self.lan, at + self.lan + self.wan)

    def down(self, at: int, size: int) -> Fate:
        return self._fate(SERVER, at + self.wan, at + self.wan + self.lan)

    def listening(self, at: int) -> bool | None:
        return self.answers

    def forgotten(self, at: int) -> bool:
        return False


class Everything:
    """A set of numbers that holds them all."""

    def __contains__(self, number: object) -> bool:
        return True


ALL: set[int] = Everything()  # type: ignore[assignment]


def judge(played: Played, path: Lossy, plan: Plan, start: int) -> None:
    """Reassemble both directions from what arrived, and hold every segment against it."""
    base = 1 if plan.handshake else 0
    sizes = [sum(m.size for m in plan.messages if m.side == side) for side in (CLIENT, SERVER)]
    pieces: list[list[tuple[int, int, int]]] = [[], []]  # of each sender: arrival, first, end
    for segment in played.segments:
        arrived = path.log.get((segment.side, segment.at + start))
        taken = segment.length + bool(segment.flags & SYN) + bool(segment.flags & FIN)
        assert segment.seq + taken <= base + sizes[segment.side] + 1, "beyond what was to be said"
        assert segment.payload == segment.seq - base
        if arrived is not None and taken:
            pieces[segment.side].append((arrived, segment.seq, segment.seq + taken))
    for side in (CLIENT, SERVER):
        acks = 0
        sent = sorted((s for s in played.segments if s.side == side), key=lambda s: s.sent)
        for segment in sent:
            if not segment.flags & ACK or segment.flags & RST:
                continue
            heard = prefix(pieces[1 - side], segment.sent + start)
            assert segment.ack <= heard, "acknowledges what has not arrived"
            assert segment.ack >= acks, "takes an acknowledgement back"
            acks = segment.ack
    if played.outcome == "ok":
        last = max((i for i, m in enumerate(plan.messages) if m.side == SERVER), default=-1)
        due = [sum(m.size for m in plan.messages[: last + 1] if m.side == side) for side in (CLIENT, SERVER)]
        for side in (CLIENT, SERVER):
            assert prefix(pieces[side], played.done + start) >= due[side] + (base if due[side] else 0)


def prefix(pieces: list[tuple[int, int, int]], now: int) -> int:
    """Return how far the bytes have arrived without a gap."""
    end = 0
    for _, first, last in sorted((p for p in pieces if p[0] <= now), key=lambda p: p[1:]):
        if first <= end:
            end = max(end, last)
    return end


messages = st.lists(
    st.builds(
        Message,
        st.sampled_from([CLIENT, SERVER]),
        st.integers(1, 40_000),
        st.integers(0, 50 * MS),
        st.just(False),
    ),
    min_size=1,
    max_size=5,
)
losses = st.tuples(st.sets(st.integers(0, 40), max_size=12), st.sets(st.integers(0, 40), max_size=12))


def alternating(turns: list[Message]) -> tuple[Message, ...]:
    """Join neighbouring messages of one side, as a program does, and let the client begin."""
    result = [Message(CLIENT, 100)]
    for turn in turns:
        if turn.side != result[-1].side:
            result.append(turn)
    return tuple(result)


@pytest.mark.slow
@given(
    turns=messages, losses=losses, before=st.booleans(), handshake=st.booleans(), closes=st.booleans(),
    lan=st.integers(0, 20 * MS), wan=st.integers(0, 200 * MS), stack=st.sampled_from([LINUX, SMALL]),
    start=st.sampled_from([0, 3 * S, -5 * S]),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_whatever_is_lost_the_bytes_arrive_or_the_outcome_says_why(
    turns: list[Message], losses: tuple[set[int], set[int]], before: bool, handshake: bool, closes: bool,
    lan: int, wan: int, stack: Stack, start: int,
) -> None:  # fmt: skip
    said = alternating(turns)
    if closes:
        said += (Message(CLIENT, 0, 0, True), Message(SERVER, 0, 0, True))
    plan = Plan(said, handshake, rtt=0 if handshake else 2 * (lan + wan))
    path = Lossy(lan, wan, losses, before=before)
    played = play(plan, stack, SERVERS, path, start, start + FOREVER)
    judge(played, path, plan, start)
    # A dozen losses exhaust no kernel's patience except that for a SYN.
    if played.outcome != "ok":
        assert played.outcome == "no-reply" and handshake and len(losses[CLIENT] | losses[SERVER]) > 5
    else:
        assert played.acknowledged
        ends = (1, 1) if handshake else (0, 0)
        for side in (CLIENT, SERVER):
            size = sum(m.size for m in said if m.side == side)
            fins = sum(m.fin for m in said if m.side == side)
            assert played.advance[side] == size + fins + ends[side]


@given(turns=messages, losses=losses, patience=st.integers(1, 10 * S), handshake=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_program_never_waits_longer_than_it_wanted(
    turns: list[Message], losses: tuple[set[int], set[int]], patience: int, handshake: bool
) -> None:
    plan = Plan((*alternating(turns), Message(SERVER, 10)), handshake)
    path = Lossy(LAN, WAN, losses)
    played = play(plan, LINUX, SERVERS, path, 0, patience)
    judge(played, path, plan, 0)
    assert played.done <= patience
    assert played.outcome in ("ok", "no-reply")


@given(turns=messages, handshake=st.booleans(), lan=st.integers(0, 9 * MS), wan=st.integers(0, 150 * MS))
@settings(max_examples=60, deadline=None)
def test_nothing_is_sent_twice_where_nothing_is_lost(
    turns: list[Message], handshake: bool, lan: int, wan: int
) -> None:
    plan = Plan(alternating(turns), handshake, rtt=0 if handshake else 2 * (lan + wan))
    played = play(plan, LINUX, SERVERS, Steady(lan, wan, wan), 0, FOREVER)
    assert played.outcome == "ok"
    for side in (CLIENT, SERVER):
        words = [(s.seq, s.length) for s in played.segments if s.side == side and s.length]
        assert len(words) == len(set(words))
        words.sort()
        assert all(one[0] + one[1] == other[0] for one, other in pairwise(words)), "a gap or an overlap"


@pytest.mark.parametrize(
    ("stack", "moments", "end"),
    [
        (LINUX, [0, 1, 3, 7, 15, 31, 63], 127),
        (Stack.of(TcpStack(syn_retries=5)), [0, 1, 3, 7, 15, 31], 63),
        (SMALL, [0, 3, 9, 21, 45, 93], 189),
        (Stack.of(TcpStack(syn_timeout="3s", syn_retries=2)), [0, 3, 9], 21),
    ],
)
def test_a_kernel_that_hears_nothing_repeats_its_syn_on_schedule(
    stack: Stack, moments: list[int], end: int
) -> None:
    path = Lossy(LAN, WAN, (ALL, ALL))
    played = play(Plan((), True), stack, SERVERS, path, 0, FOREVER)
    assert played.outcome == "no-reply"
    assert [s.sent for s in played.segments] == [second * S for second in moments]
    assert {s.flags for s in played.segments} == {SYN}
    assert played.done == end * S


def test_a_program_gives_up_before_its_kernel_does() -> None:
    played = play(Plan((), True), LINUX, SERVERS, Lossy(LAN, WAN, (ALL, ALL)), 0, 10 * S)
    assert (played.outcome, played.done) == ("no-reply", 10 * S)
    assert [s.sent // S for s in played.segments] == [0, 1, 3, 7]


def test_unanswered_data_is_repeated_with_doubling_pauses_up_to_the_limit() -> None:
    plan = Plan((Message(CLIENT, 50), Message(SERVER, 50)), rtt=44 * MS)
    stack = Stack.of(TcpStack(data_retries=12, sack=False))
    played = play(plan, stack, SERVERS, Lossy(LAN, WAN, (ALL, set())), 0, FOREVER)
    assert played.outcome == "lost" and not played.acknowledged
    sent = [s.sent for s in played.segments]
    assert len(sent) == 13
    assert {(s.seq, s.length) for s in played.segments} == {(0, 50)}
    pauses = [later - earlier for earlier, later in pairwise(sent)]
    assert pauses[0] == 44 * MS + max(stack.min_rto, 2 * 44 * MS)
    assert all(later == min(2 * earlier, stack.max_rto) for earlier, later in pairwise(pauses))
    assert pauses[-1] == stack.max_rto, "the limit was never reached"


def test_a_lost_segment_among_many_is_repeated_before_the_timer() -> None:
    plan = Plan((Message(CLIENT, 100), Message(SERVER, 14_000)), rtt=44 * MS)
    path = Lossy(LAN, WAN, (set(), {3}))  # the third of data, after an ACK
    played = play(plan, LINUX, SERVERS, path, 0, FOREVER)
    judge(played, path, plan, 0)
    first, again = (s.sent for s in played.segments if s.side == SERVER and s.seq == 2 * 1448 and s.length)
    assert 44 * MS <= again - first < SERVERS.min_rto


def test_with_sack_a_loss_probe_comes_before_the_first_timeout() -> None:
    plan = Plan((Message(CLIENT, 50), Message(SERVER, 50)), rtt=44 * MS)
    played = play(plan, LINUX, SERVERS, Lossy(LAN, WAN, (ALL, set())), 0, 5 * S)
    rto = 44 * MS + LINUX.min_rto
    assert [s.sent // MS for s in played.segments] == [rto // MS * n for n in (0, 1, 2, 4, 8, 16)]


class Unreachable(Lossy):
    """A way whose router complains two seconds after each segment."""

    def up(self, at: int, size: int) -> Fate:
        return Fate(at + self.lan, None, at + 2 * S)


def test_an_unreachable_takes_a_doubling_back() -> None:
    plan = Plan((Message(CLIENT, 50), Message(SERVER, 50)), rtt=44 * MS)
    stack = Stack.of(TcpStack(sack=False))
    played = play(plan, stack, SERVERS, Unreachable(LAN, WAN, (ALL, set())), 0, 20 * S)
    pauses = [later.sent - earlier.sent for earlier, later in pairwise(played.segments)]
    assert pauses[:3] == [244 * MS * n for n in (1, 2, 4)]
    assert max(pauses) < 2 * S, "it went on doubling"


def test_quick_acks_come_at_once_and_interactive_ones_late() -> None:
    quick = play(Plan((Message(SERVER, 100),)), LINUX, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER)
    ack = next(s for s in quick.segments if s.side == CLIENT)
    assert (ack.delayed, ack.length, ack.ack, ack.sent) == (False, 0, 100, LAN + WAN)
    interactive = (AckState(interactive=True, ato_ns=LINUX.delayed_ack), AckState())
    plan = Plan((Message(SERVER, 100),), acks=interactive)
    late = play(plan, LINUX, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER)
    ack = next(s for s in late.segments if s.side == CLIENT)
    assert ack.delayed and ack.sent == LAN + WAN + LINUX.delayed_ack
    assert not late.acks[CLIENT].interactive, "a delayed ACK that nothing carried"
    assert late.acks_cut[CLIENT].interactive, "unless the client speaks before"


def test_an_answer_carries_the_acknowledgement_of_an_interactive_server() -> None:
    interactive = AckState(interactive=True, ato_ns=LINUX.delayed_ack)
    plan = Plan((Message(CLIENT, 100), Message(SERVER, 100, MS)), acks=(AckState(), interactive))
    played = play(plan, LINUX, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER)
    assert [(s.side, s.length, s.ack) for s in played.segments] == [
        (CLIENT, 100, 0), (SERVER, 100, 100), (CLIENT, 0, 100),
    ]  # fmt: skip
    first = play(
        plan._replace(acks=(AckState(), AckState())), LINUX, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER
    )
    assert [(s.side, s.length, s.ack) for s in first.segments] == [
        (CLIENT, 100, 0), (SERVER, 0, 100), (SERVER, 100, 100), (CLIENT, 0, 100),
    ]  # fmt: skip


def test_a_closed_port_refuses_at_once_and_a_silent_one_never() -> None:
    path = Lossy(LAN, WAN, (set(), set()))
    path.answers = False
    refused = play(Plan((), True), LINUX, SERVERS, path, 0, FOREVER)
    assert (refused.outcome, refused.done) == ("refused", 2 * (LAN + WAN))
    assert [s.flags for s in refused.segments] == [SYN, RST | ACK]
    path = Lossy(LAN, WAN, (set(), set()))
    path.answers = None
    assert play(Plan((), True), LINUX, SERVERS, path, 0, 10 * S).outcome == "no-reply"


def test_segments_keep_to_the_smaller_mss_and_the_initial_window() -> None:
    plan = Plan((Message(CLIENT, 100), Message(SERVER, 60_000)), cwnd=(10, 10), rtt=44 * MS)
    played = play(plan, LINUX, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER)
    down = [s for s in played.segments if s.side == SERVER and s.length]
    assert max(s.length for s in down) == 1460 - 12
    assert sum(s.sent < down[0].sent + 20 * MS for s in down) == 10, "more or less than the initial window"
    small = play(plan, SMALL, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER)
    assert max(s.length for s in small.segments) == 1460


def test_both_sides_close_in_good_order() -> None:
    plan = Plan((Message(CLIENT, 0, 0, True), Message(SERVER, 0, 0, True)))
    played = play(plan, LINUX, SERVERS, Steady(LAN, WAN, WAN), 0, FOREVER)
    assert [s.flags for s in played.segments] == [FIN | ACK, FIN | ACK, ACK]
    assert played.advance == (1, 1)


@pytest.mark.parametrize("stack", [LINUX, SMALL], ids=["timestamps", "Karn"])
def test_kernels_learn_that_the_way_has_become_long(stack: Stack) -> None:
    """After the first exchanges over a way of 1.2 s there and back, nothing is sent again in vain."""
    plan = Plan((Message(CLIENT, 100), Message(SERVER, 100)), rtt=44 * MS)
    again = []
    for number in range(8):  # loss probes come after two round trips as known, so they learn slowly
        played = play(plan, stack, SERVERS, Steady(LAN, 600 * MS, 600 * MS), number * 10 * S, FOREVER)
        assert played.outcome == "ok"
        again.append(sum(s.length > 0 for s in played.segments) - 2)
        plan = plan._replace(timers=played.timers)
    assert again[0] > 0 and again[-3:] == [0, 0, 0]
