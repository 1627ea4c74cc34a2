"""Conditions that tell some recorded calls to a thing from others, in CEL.

Law: a condition is given only after it was evaluated: true on each call it is for, false (never an error) on the rest.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call, Json
from coatcheck.policy.conditions import MAX_SOURCE, ConditionError, compile_condition, variables
from coatcheck.policy.model import Server

MAX_VALUES = 20
"""Values of one argument that are listed in a condition."""


def condition_for(
    wanted: Sequence[Call], others: Sequence[Call], caller: Caller, server: Server, now: datetime
) -> str | None:
    """A condition on method or arguments that is true on `wanted` and false on `others`; None where none is found.

    The narrowest kind that reads well is tried first: the method, the values of one argument, whole arguments.
    """
    for source in _candidates(wanted, others):
        if len(source) <= MAX_SOURCE and _tells(source, wanted, others, caller, server, now):
            return source
    return None


def _candidates(wanted: Sequence[Call], others: Sequence[Call]) -> Iterator[str]:
    methods = sorted({call.method for call in wanted})
    if not {call.method for call in others} & set(methods):
        yield f"call.method in {_literal(list(methods))}"
    has_arguments = any(call.arguments for call in (*wanted, *others))
    if not has_arguments:
        return
    for name in sorted({name for call in wanted for name in call.arguments}):
        values = [call.arguments.get(name) for call in wanted]
        scalars = {(type(value), value): value for value in values if isinstance(value, str | int | bool)}
        if len(scalars) <= MAX_VALUES and all(isinstance(value, str | int | bool) for value in values):
            listed = sorted(scalars.values(), key=lambda value: (type(value).__name__, value))
            yield f"{_literal(name)} in args && args[{_literal(name)}] in {_literal(list(listed))}"
    whole = {_literal(dict(call.arguments)): None for call in wanted}
    yield " || ".join(f"args == {one}" for one in whole)


def _tells(
    source: str, wanted: Sequence[Call], others: Sequence[Call], caller: Caller, server: Server, now: datetime
) -> bool:
    try:
        condition = compile_condition(source)
        return all(condition.holds(variables(caller, server, call, now)) for call in wanted) and not any(
            condition.holds(variables(caller, server, call, now)) for call in others
        )
    except (ConditionError, ValueError):
        return False


def _literal(value: Json) -> str:
    """A JSON value as a CEL literal: CEL reads JSON's own forms."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
