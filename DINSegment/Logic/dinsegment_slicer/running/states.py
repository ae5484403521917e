"""What the panel can be doing, and what leads from one state to the next: all of it in one table."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """What the panel is doing."""

    NO_INPUT = auto()
    """There is nothing to segment."""
    READY = auto()
    """An image is chosen; nothing runs."""
    PREPARING = auto()
    """What the segmentation or export needs is looked for and, if the user agrees, installed."""
    RUNNING = auto()
    """The worker segments, or writes what is exported."""
    ADDING = auto()
    """The result is added to the scene, or what was exported to the DICOM database."""


class Event(Enum):
    """What happens to the panel."""

    INPUT_CHOSEN = auto()
    INPUT_REMOVED = auto()
    """No image is chosen any more, or the one that is being segmented was deleted."""
    SEGMENT = auto()
    """A segmentation or an export begins."""
    PREPARED = auto()
    COMPUTED = auto()
    ADDED = auto()
    CANCEL = auto()
    FAILED = auto()
    """An error, or the user declined what is needed."""
    SCENE_CLOSED = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.NO_INPUT, Event.INPUT_CHOSEN): State.READY,
    (State.READY, Event.INPUT_REMOVED): State.NO_INPUT,
    (State.READY, Event.SEGMENT): State.PREPARING,
    (State.READY, Event.SCENE_CLOSED): State.NO_INPUT,
    (State.PREPARING, Event.PREPARED): State.RUNNING,
    (State.PREPARING, Event.FAILED): State.READY,
    (State.PREPARING, Event.INPUT_REMOVED): State.NO_INPUT,
    (State.PREPARING, Event.SCENE_CLOSED): State.NO_INPUT,
    (State.RUNNING, Event.COMPUTED): State.ADDING,
    (State.RUNNING, Event.CANCEL): State.READY,
    (State.RUNNING, Event.FAILED): State.READY,
    (State.RUNNING, Event.INPUT_REMOVED): State.NO_INPUT,
    (State.RUNNING, Event.SCENE_CLOSED): State.NO_INPUT,
    (State.ADDING, Event.ADDED): State.READY,
    (State.ADDING, Event.CANCEL): State.READY,
    (State.ADDING, Event.FAILED): State.READY,
    (State.ADDING, Event.INPUT_REMOVED): State.NO_INPUT,
    (State.ADDING, Event.SCENE_CLOSED): State.NO_INPUT,
}
"""What is not here changes nothing: a second click while a run goes on, a cancel when nothing runs."""

BUSY = frozenset({State.PREPARING, State.RUNNING, State.ADDING})
"""States in which the input cannot be changed and no other run begins."""


def next_state(state: State, event: Event) -> State | None:
    """Where an event leads; None if it means nothing in this state."""
    return TRANSITIONS.get((state, event))
