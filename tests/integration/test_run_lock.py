"""The run lock: one run at a time, and a run asked for meanwhile is remembered."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lambdas.shared.errors import RunLost
from lambdas.shared.run_lock import RunLock, Taken
from tests.aws_mock import CONTROL_TABLE, aws, create_control_table

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000_000
LEASE = 1000
RUNS = st.sampled_from(["a", "b", "c"])


@pytest.fixture
def lock() -> Iterator[RunLock]:
    with aws():
        yield RunLock(CONTROL_TABLE, create_control_table())


def test_the_first_run_gets_the_lock(lock: RunLock) -> None:
    assert lock.begin("a", LEASE, NOW) == Taken(acquired=True, holder=None)


def test_a_second_run_learns_the_holder_and_the_holder_learns_of_it(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    assert lock.begin("b", LEASE, NOW + 1) == Taken(acquired=False, holder="a")
    assert lock.end("a") is True


def test_a_retried_task_keeps_the_word_that_others_left_even_after_the_lease(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    lock.begin("b", LEASE, NOW + 1)
    assert lock.begin("a", LEASE, NOW + LEASE + 1).acquired
    assert lock.end("a") is True


def test_a_run_that_only_looks_leaves_no_word(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    assert lock.begin("b", LEASE, NOW + 1, again=False) == Taken(acquired=False, holder="a")
    assert lock.end("a") is False


def test_a_run_nobody_waited_for_ends_without_another(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    assert lock.end("a") is False


def test_the_last_run_is_known_by_its_name_once_it_has_ended(lock: RunLock) -> None:
    assert lock.last_ended() is None
    lock.begin("a", LEASE, NOW)
    assert lock.last_ended() is None
    lock.end("a")
    assert lock.last_ended() == "a"
    lock.begin("b", LEASE, NOW)
    assert lock.last_ended() is None


def test_the_holder_is_known_while_its_lease_lasts(lock: RunLock) -> None:
    assert lock.holder(NOW) is None
    lock.begin("a", LEASE, NOW)
    assert [lock.holder(NOW + LEASE), lock.holder(NOW + LEASE + 1)] == ["a", None]
    lock.end("a")
    assert lock.holder(NOW) is None


def test_ending_twice_gives_the_same_answer_twice(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    lock.begin("b", LEASE, NOW)
    assert [lock.end("a"), lock.end("a")] == [True, True]


def test_a_lock_given_back_is_free_at_once_and_remembers_nothing(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    lock.begin("b", LEASE, NOW)
    lock.end("a")
    assert lock.begin("b", LEASE, NOW).acquired
    assert lock.end("b") is False


def test_beginning_twice_keeps_the_lock_and_the_request_for_another_run(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    lock.begin("b", LEASE, NOW)
    assert lock.begin("a", LEASE, NOW + 5).acquired
    assert lock.end("a") is True


def test_a_dead_holder_is_replaced_once_its_lease_has_passed(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    assert not lock.begin("b", LEASE, NOW + LEASE).acquired
    assert lock.begin("b", LEASE, NOW + LEASE + 1).acquired
    for late in (lambda: lock.renew("a", LEASE, NOW + LEASE + 2), lambda: lock.end("a")):
        with pytest.raises(RunLost, match="run a has lost the run lock"):
            late()
    assert lock.end("b") is False


def test_renewing_moves_the_end_of_the_lease(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    lock.renew("a", LEASE, NOW + LEASE)
    assert not lock.begin("b", LEASE, NOW + LEASE + 1).acquired


def test_a_run_that_has_ended_cannot_renew(lock: RunLock) -> None:
    lock.begin("a", LEASE, NOW)
    lock.end("a")
    with pytest.raises(RunLost):
        lock.renew("a", LEASE, NOW)


class LockHistory(RuleBasedStateMachine):
    """Random histories against a model: who holds the lock, until when, and whether it is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.context = contextlib.ExitStack()
        self.context.enter_context(aws())
        self.lock = RunLock(CONTROL_TABLE, create_control_table())
        self.now = NOW
        self.owner: str | None = None
        self.until = 0
        self.again = False

    def teardown(self) -> None:
        """Leave the account in memory."""
        self.context.close()

    @rule(passed=st.sampled_from([1, LEASE // 2, LEASE, LEASE + 1]))
    def time_passes(self, passed: int) -> None:
        """Let leases run out."""
        self.now += passed

    @rule(run=RUNS)
    def begin(self, run: str) -> None:
        """A run asks for the lock."""
        taken = self.lock.begin(run, LEASE, self.now)
        if self.owner not in (None, run) and self.until >= self.now:
            assert taken == Taken(acquired=False, holder=self.owner)
            self.again = True
            return
        assert taken.acquired
        if run != self.owner:
            self.again = False
        self.owner, self.until = run, self.now + LEASE

    @rule(run=RUNS)
    def renew(self, run: str) -> None:
        """A run goes on to its next step."""
        if run == self.owner and self.until > 0:
            self.lock.renew(run, LEASE, self.now)
            self.until = self.now + LEASE
            return
        with pytest.raises(RunLost):
            self.lock.renew(run, LEASE, self.now)

    @rule(run=RUNS)
    def end(self, run: str) -> None:
        """A run has ended."""
        if run == self.owner:
            assert self.lock.end(run) == self.again
            self.until = 0
            return
        with pytest.raises(RunLost):
            self.lock.end(run)

    @invariant()
    def a_free_lock_has_no_live_lease(self) -> None:
        """Until somebody owns it, it has no end."""
        assert self.owner is not None or self.until == 0


TestLockHistory = LockHistory.TestCase
TestLockHistory.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
