"""Field paths on their way through a value: how far each has been followed."""

from coatcheck.masking.paths import FieldPath
from coatcheck.masking.rules import Field
from coatcheck.mcp.call import Json

type State = tuple[Field, int]
"""A field path, and how many of its segments have been followed to here."""


def descending(states: tuple[State, ...]) -> tuple[State, ...]:
    """The paths that go on at any depth below a value that they have been followed to."""
    return tuple([state for state in states if state[1] and state[0].path.segments[state[1]].descends])


def is_elsewhere(path: FieldPath, followed: int, value: Json) -> bool:
    """Whether the next segment expects another kind of value: the path cannot go on, but it did lead here."""
    segment = path.segments[followed]
    if segment.descends:
        return False
    if isinstance(value, dict):
        return segment.index is not None
    if isinstance(value, list):
        return segment.name is not None
    return True


def further(states: tuple[State, ...], *, name: str | None = None, index: int | None = None) -> tuple[State, ...]:
    """The states one member or element further down."""
    found: list[State] = []
    for state in states:
        field, followed = state
        segment = field.path.segments[followed]
        if segment.is_wildcard or (segment.name == name and segment.index == index):
            found.append((field, followed + 1))
        if segment.descends:
            found.append(state)
    return tuple(dict.fromkeys(found)) if len(found) > 1 else tuple(found)
