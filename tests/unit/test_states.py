"""The run state machine: every state is reached, ended states are final, and every way comes to an end."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pullcord.core.states import ACTIVE, ENDED, TRANSITIONS, RunState, can_reach, may_follow

BEGINNINGS = {RunState.SCHEDULED, RunState.QUEUED}


def test_the_table_has_every_state() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert set().union(*TRANSITIONS.values()) <= set(RunState)


def test_every_state_is_reached_from_a_beginning() -> None:
    assert BEGINNINGS | can_reach(RunState.SCHEDULED) | can_reach(RunState.QUEUED) == set(RunState)


def test_exactly_the_ends_are_final() -> None:
    assert {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED} == ENDED
    assert all(not can_reach(state) for state in ENDED)
    assert not ENDED & ACTIVE


@pytest.mark.parametrize("state", sorted(set(RunState) - ENDED))
def test_every_other_state_comes_to_an_end_and_can_be_cancelled(state: RunState) -> None:
    assert can_reach(state) & ENDED
    assert RunState.CANCELLED in can_reach(state)


def test_what_the_words_promise() -> None:
    assert not may_follow(RunState.QUEUED, RunState.SUCCEEDED), "nothing succeeds without running"
    assert not may_follow(RunState.SCHEDULED, RunState.RUNNING), "a due run queues like any other"
    assert may_follow(RunState.RUNNING, RunState.SCHEDULED), "a retry's back-off"
    assert can_reach(RunState.CANCELLING) == {RunState.CANCELLED}, "a cancelled run never succeeds after all"


class Walk(RuleBasedStateMachine):
    """A run that goes wherever the table lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.path = [RunState.QUEUED]

    @precondition(lambda self: self.path[-1] not in ENDED)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.path.append(data.draw(st.sampled_from(sorted(TRANSITIONS[self.path[-1]]))))

    @precondition(lambda self: self.path[-1] in ENDED)
    @rule(state=st.sampled_from(RunState))
    def stay(self, state: RunState) -> None:
        assert not may_follow(self.path[-1], state)

    @invariant()
    def everything_later_was_reachable_before(self) -> None:
        for index, state in enumerate(self.path):
            assert set(self.path[index + 1 :]) <= can_reach(state)
            assert state not in ENDED or state is self.path[-1]

    @invariant()
    def a_cancelled_way_has_no_way_back(self) -> None:
        if RunState.CANCELLING in self.path:
            assert self.path[-1] in {RunState.CANCELLING, RunState.CANCELLED}


TestWalk = Walk.TestCase
