"""Conditions: what a rule's `when` says, in CEL. The only module that imports `cel`.

Law: a condition holds only when it evaluates, within its bounds, to the boolean true; every failure is a
`ConditionError`, never a false (a deny whose condition fails must not be passed over).
Law: no value of an argument or a claim is ever in a message.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import datetime

import cel

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy import cost
from coatcheck.policy.model import Condition, Server

MAX_SOURCE = 2_000
VARIABLES = frozenset({"caller", "call", "args", "server", "http", "now"})
MEMBERS = {
    "caller": frozenset({"name", "groups", "claims"}),
    "call": frozenset({"method", "name"}),
    "http": frozenset({"method", "path"}),
}

_TYPES = frozenset({"string", "int", "uint", "double", "bool", "bytes", "list", "map", "null_type", "type"})
_FUNCTIONS = frozenset(
    {"size", "string", "int", "uint", "double", "bytes", "type", "dyn", "timestamp", "duration"}
    | {"contains", "startsWith", "endsWith", "matches"}
    | {"getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"}
    | {"getHours", "getMinutes", "getSeconds", "getMilliseconds"}
)
_METHODS = _FUNCTIONS - {"string", "int", "uint", "double", "bytes", "type", "dyn", "timestamp", "duration", "size"}
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")


class ConditionError(Exception):
    """A condition could not be evaluated to true or false. The text says why, without any value."""


class Variables(dict[str, object]):
    """The variables of one call, measured and converted once for all conditions that look at the same ones."""

    __slots__ = ("_prepared",)

    def __init__(self, values: Mapping[str, object]) -> None:
        super().__init__(values)
        self._prepared: dict[bool, tuple[cost.Extent, cel.Context]] = {}

    def prepared(self, *, with_args: bool) -> tuple[cost.Extent, cel.Context]:
        """How much there is to look at, and the variables as the CEL library holds them.

        Arguments count only for a condition that names them. Raises `ConditionError` where it is too much.
        """
        if with_args not in self._prepared:
            seen = {name: value for name, value in self.items() if with_args or name != "args"}
            try:
                extent = cost.measure({name: seen[name] for name in ("args", "caller") if name in seen})
            except cost.TooMuch as error:
                raise ConditionError(str(error)) from None
            self._prepared[with_args] = (extent, cel.Context(variables=seen))
        return self._prepared[with_args]


class CelCondition:
    """A compiled expression, safe to share between calls."""

    __slots__ = ("_program", "_work", "source", "uses")

    def __init__(self, source: str, program: cel.Program, work: cost.Work, uses: frozenset[str]) -> None:
        self.source = source
        self.uses = uses
        """The variables it names, of `VARIABLES`."""
        self._program = program
        self._work = work

    def __repr__(self) -> str:
        return f"CelCondition({self.source!r})"

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether it is true. Raises `ConditionError` on any failure, over any bound, and for a non-boolean."""
        given = variables if isinstance(variables, Variables) else Variables(variables)
        extent, context = given.prepared(with_args="args" in self.uses)
        if cost.microseconds(self._work, extent, given) > cost.BUDGET_MICROSECONDS:
            raise ConditionError("its loops would take too long on values of this size")
        try:
            result = self._program.execute(context)
        except LookupError:
            raise ConditionError("a value it names is not there") from None
        except TypeError:
            raise ConditionError("a value it names has another type") from None
        except Exception:  # noqa: BLE001 - the library raises many kinds; each means that nothing was decided
            raise ConditionError("it cannot be evaluated") from None
        if not isinstance(result, bool):
            raise ConditionError("it is neither true nor false")
        return result


def compile_condition(source: str) -> CelCondition:
    """Compiles a CEL expression (at most 2,000 characters). Raises `ValueError`, whose text says what is wrong.

    Refused here, because it could only fail later: unknown variables and functions, a regular expression
    that is not a literal or not valid.
    """
    if len(source) > MAX_SOURCE:
        raise ValueError(f"the condition is longer than {MAX_SOURCE:,} characters")
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise ValueError(f"not a CEL expression: {_first_fault(str(error))}") from None
    except Exception:  # noqa: BLE001 - whatever the parser trips over, the expression is not one
        raise ValueError("not a CEL expression") from None
    found = cost.tokens(source)
    copying = [found[at].text for at in cost.macros(found) if found[at].text in cost.COPIES]
    if copying:
        raise ValueError(f"{copying[0]!r} is not for conditions: say it with all, exists or exists_one")
    bound = {found[at + 2].text for at in cost.macros(found) if at + 2 < len(found)}
    if bound & VARIABLES:
        raise ValueError(f"{min(bound & VARIABLES)!r} is a variable's name and cannot be bound again")
    references = program.references()
    _check_names("variable", set(references["variables"]) - bound - _TYPES, VARIABLES)
    _check_names("function", {name for name in references["functions"] if name[0].isalpha()}, _FUNCTIONS)
    _check_members(found, bound)
    _check_calls(found)
    return CelCondition(source, program, cost.work_of(found, VARIABLES), frozenset(references["variables"]) & VARIABLES)


def variables(caller: Caller, server: Server, call: Call, now: datetime) -> dict[str, object]:
    """What a condition can see: `caller{name,groups,claims}`, `call{method,name}`, `args`, `server` (its name),
    `http{method,path}` (plain HTTP only) and `now` (a timestamp).
    """
    values: dict[str, object] = {
        "caller": {"name": caller.name, "groups": sorted(caller.groups), "claims": dict(caller.claims)},
        "call": {"method": call.method, "name": call.name or ""},
        "args": dict(call.arguments),
        "server": server.name,
        "now": now,
    }
    if call.kind == "http":
        values["http"] = {"method": call.method, "path": call.name or ""}
    return Variables(values)


def _first_fault(message: str) -> str:
    """The parser's own reason: `1:6: no viable alternative at input '.'`."""
    found = re.search(r"<input>:(\d+:\d+: .*)", message)
    return found[1].replace("Syntax error: ", "") if found else "syntax error"


def _check_names(kind: str, names: set[str], known: frozenset[str]) -> None:
    for name in sorted(names - known):
        close = difflib.get_close_matches(name, known, n=1)
        raise ValueError(f"unknown {kind} {name!r}" + (f", did you mean {close[0]!r}" if close else ""))


def _check_members(found: list[cost.Token], bound: set[str]) -> None:
    """`caller.claim` can only fail: the members of our own variables are known."""
    for at in range(len(found) - 2):
        name, dot, member = found[at : at + 3]
        is_ours = name.kind == "name" and name.text in MEMBERS and name.text not in bound
        after_dot = at > 0 and found[at - 1].text == "."
        if is_ours and not after_dot and dot.text == "." and member.kind == "name":
            is_loop = member.text in cost.LOOPS | cost.COPIES | _METHODS | {"size"}
            if not is_loop:
                _check_names(f"member of {name.text}", {member.text}, MEMBERS[name.text])


def _check_calls(found: list[cost.Token]) -> None:
    """Methods are called on a value, and a regular expression is one valid literal."""
    for at, token in enumerate(found[:-1]):
        if token.kind != "name" or token.text not in _METHODS or found[at + 1].text != "(":
            continue
        if at == 0 or found[at - 1].text != ".":
            raise ValueError(f"{token.text!r} is called on a value: x.{token.text}(…)")
        if token.text == "matches":
            literal = found[at + 2] if at + 3 < len(found) and found[at + 3].text == ")" else None
            if literal is None or literal.kind != "text":
                raise ValueError("'matches' takes one regular expression, written as a string")
            _check_regex(literal.text)


def _check_regex(literal: str) -> None:
    """Refuses what is not valid, and counted repetitions that multiply past 1,000 (compiled at each use)."""
    repeats = 1
    for low, high in _REPEAT.findall(literal):
        repeats *= max(int(high or low), 1)
    if repeats > 1_000:
        raise ValueError("the regular expression repeats more than 1,000 times")
    try:
        cel.compile(f'"".matches({literal})').execute({})
    except Exception:  # noqa: BLE001 - any failure means that it is not a regular expression
        raise ValueError("not a regular expression") from None


def _is_condition(condition: CelCondition) -> Condition:
    """Lets the type checker prove that a compiled expression is what rules hold."""
    return condition
