"""The panel's states: every state met with every event."""

from __future__ import annotations

import itertools

import pytest

from dinsegment_slicer.running.states import BUSY, TRANSITIONS, Event, State, next_state

every_state = pytest.mark.parametrize("state", State, ids=lambda s: s.name)
every_pair = pytest.mark.parametrize(
    "state, event", list(itertools.product(State, Event)), ids=lambda x: x.name if hasattr(x, "name") else x
)

IGNORED = {
    State.NO_INPUT: set(Event) - {Event.INPUT_CHOSEN},
    State.READY: set(Event) - {Event.INPUT_REMOVED, Event.SEGMENT, Event.SCENE_CLOSED},
    State.PREPARING: set(Event) - {Event.PREPARED, Event.FAILED, Event.INPUT_REMOVED, Event.SCENE_CLOSED},
    State.RUNNING: set(Event) - {Event.COMPUTED, Event.CANCEL, Event.FAILED, Event.INPUT_REMOVED, Event.SCENE_CLOSED},
    State.ADDING: set(Event) - {Event.ADDED, Event.CANCEL, Event.FAILED, Event.INPUT_REMOVED, Event.SCENE_CLOSED},
}


@every_pair
def test_an_event_leads_somewhere_or_is_ignored_on_purpose(state, event):
    assert (next_state(state, event) is None) == (event in IGNORED[state])


@every_state
def test_without_its_image_nothing_can_run(state):
    if state is not State.NO_INPUT:
        assert next_state(state, Event.INPUT_REMOVED) is State.NO_INPUT
        assert next_state(state, Event.SCENE_CLOSED) is State.NO_INPUT


@every_state
def test_a_failure_of_a_run_leads_back_to_where_one_can_try_again(state):
    assert next_state(state, Event.FAILED) is (State.READY if state in BUSY else None)


@every_state
def test_only_one_run_at_a_time(state):
    assert next_state(state, Event.SEGMENT) is (State.PREPARING if state is State.READY else None)


def test_a_run_goes_from_preparing_over_running_to_adding():
    state = State.NO_INPUT
    for event in (Event.INPUT_CHOSEN, Event.SEGMENT, Event.PREPARED, Event.COMPUTED, Event.ADDED):
        state = next_state(state, event)
    assert state is State.READY


def test_a_run_cannot_be_left_but_by_its_own_end():
    left = {event for (state, event), to in TRANSITIONS.items() if state in BUSY and to not in BUSY}
    assert left == {Event.CANCEL, Event.FAILED, Event.INPUT_REMOVED, Event.SCENE_CLOSED, Event.ADDED}


@every_state
def test_every_state_can_be_reached_and_left(state):
    assert state in TRANSITIONS.values()
    assert any(source is state and to is not state for (source, _event), to in TRANSITIONS.items())
