"""Conditions: what a rule's `when` says, in CEL.

Law: a condition holds only when it evaluates, within its bounds, to the boolean true; every failure is a
`ConditionError`, never a false (a deny whose condition fails must not be passed over).
Law: no value of an argument or a claim is ever in a message.
"""

import difflib
from collections.abc import Mapping
from datetime import datetime

from coatcheck.identity.caller import Caller
from coatcheck.mcp.call import Call
from coatcheck.policy import cost
from coatcheck.policy.claims_named import claims_named
from coatcheck.policy.expressions import MEMBERS, Expression, Failed, Fault, Given, is_sound
from coatcheck.policy.model import ClaimPath, Server

MAX_SOURCE = 2_000
VARIABLES = frozenset({"args", "server", "now", *MEMBERS})

_KNOWN = {f"{name}.{member}" for name, members in MEMBERS.items() for member in members} | {"args", "server", "now"}
_FUNCTIONS = frozenset(
    {"size", "string", "int", "uint", "double", "bool", "bytes", "type", "dyn", "timestamp", "duration", "has"}
    | {"all", "exists", "exists_one", "contains", "startsWith", "endsWith", "matches"}
)
_OF_TIME = frozenset(
    {"getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"}
    | {"getHours", "getMinutes", "getSeconds", "getMilliseconds"}
)


class ConditionError(Exception):
    """A condition could not be evaluated to true or false. The text says why, without any value."""


class Variables(dict[str, object]):
    """The variables of one call, measured and converted once for all conditions that look at the same ones."""

    __slots__ = ("_prepared",)

    def __init__(self, values: Mapping[str, object]) -> None:
        super().__init__(values)
        self._prepared: dict[bool, tuple[cost.Extent, Given]] = {}

    def prepared(self, *, with_args: bool) -> tuple[cost.Extent, Given]:
        """How much there is to look at, and the variables as the CEL library holds them.

        Arguments count only for a condition that names them. Raises `ConditionError` where it is too much.
        """
        if with_args not in self._prepared:
            seen = {name: value for name, value in self.items() if with_args or name != "args"}
            try:
                extent = cost.measure([seen[name] for name in ("args", "caller", "call", "http") if name in seen])
            except cost.TooMuch as error:
                raise ConditionError(str(error)) from None
            self._prepared[with_args] = (extent, Given(seen))
        return self._prepared[with_args]


class CelCondition:
    """A compiled expression, safe to share between calls."""

    __slots__ = ("_expression", "_work", "claims", "source", "uses")

    def __init__(
        self,
        source: str,
        expression: Expression,
        work: cost.Work,
        uses: frozenset[str],
        claims: frozenset[ClaimPath],
    ) -> None:
        self.source = source
        self.uses = uses
        """The variables it names, of `VARIABLES`."""
        self.claims = claims
        self._expression = expression
        self._work = work

    def __repr__(self) -> str:
        return f"CelCondition({self.source!r})"

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether it is true. Raises `ConditionError` on any failure, over any bound, and for a non-boolean."""
        given = variables if isinstance(variables, Variables) else Variables(variables)
        extent, prepared = given.prepared(with_args="args" in self.uses)
        if cost.microseconds(self._work, extent, given) > cost.BUDGET_MICROSECONDS:
            raise ConditionError("its loops or expressions would take too long on values of this size")
        try:
            return self._expression.evaluate(prepared)
        except Failed as error:
            raise ConditionError(str(error)) from None


def compile_condition(source: str) -> CelCondition:
    """Compiles a CEL expression (at most 2,000 characters). Raises `Fault`, which says what is wrong, and where.

    Refused here, because it could only fail later: unknown names, types that never go together, what gives no boolean,
    and a regular expression, time zone, time or duration that is not valid. Refused because it could not be
    bounded: a regular expression that is not a literal, or a long one.
    """
    if len(source) > MAX_SOURCE:
        raise Fault(f"the condition is longer than {MAX_SOURCE:,} characters")
    found = cost.tokens(source)
    try:
        expression = Expression(source)
    except Fault as fault:
        _refuse_macros(found)  # else their own loop variables are what looks unknown
        raise _explained(fault) from None
    _refuse_macros(found)
    bound = {found[at + 2].text for at in cost.macros(found) if at + 2 < len(found)}
    if bound & VARIABLES:
        raise Fault(f"{min(bound & VARIABLES)!r} is a variable's name and cannot be bound again")
    try:
        work = cost.work_of(found, VARIABLES)
    except ValueError as error:
        raise Fault(f"a regular expression that cannot be used: {error}") from None
    _check_forms(found)
    if expression.type not in {"BOOL", "DYN"}:
        raise Fault(f"it gives a {expression.type.lower()}, neither true nor false")
    return CelCondition(source, expression, work, _uses(found), claims_named(found))


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


def _explained(fault: Fault) -> Fault:
    """With what may have been meant; all that is wrong with it."""
    more = tuple(map(_explained, fault.more))
    if fault.unknown is None:
        return Fault(f"not a CEL expression: {fault}", line=fault.line, column=fault.column, more=more)
    parts = fault.unknown.split(".")
    name = ".".join(parts[: 2 if parts[0] in MEMBERS else 1])
    what = f"unknown name {name!r}"
    if name in MEMBERS:
        meant = "name " + " or ".join(f"{name}.{member}" for member in sorted(MEMBERS[name]))
    else:
        close = difflib.get_close_matches(name, _KNOWN | _FUNCTIONS | _OF_TIME | MEMBERS.keys(), n=1)
        meant = f"did you mean {close[0]!r}" if close else ""
    return Fault(f"{what}, {meant}" if meant else what, line=fault.line, column=fault.column, unknown=name, more=more)


def _refuse_macros(found: list[cost.Token]) -> None:
    copying = [found[at].text for at in cost.macros(found) if found[at].text in cost.COPIES]
    if copying:
        raise Fault(f"{copying[0]!r} is not for conditions: say it with all, exists or exists_one")


def _uses(found: list[cost.Token]) -> frozenset[str]:
    after_dot = {at + 1 for at, token in enumerate(found) if token.text == "."}
    return frozenset(
        token.text
        for at, token in enumerate(found)
        if token.kind == "name" and token.text in VARIABLES and at not in after_dot
    )


def _check_forms(found: list[cost.Token]) -> None:
    """What the library would take, and we cannot vouch for: told from the tokens."""
    for at, token in enumerate(found):
        before = found[at - 1].text if at > 0 else ""
        follows = [later.text for later in found[at + 1 : at + 4]]
        if token.text == "." and not _ends_a_value(found, at - 1):
            raise Fault("a name does not start with a dot")
        if token.kind != "name" or not follows:
            continue
        if follows[0] == "{" and token.text != "in":
            raise Fault("messages are not for conditions", unknown=token.text)
        if follows[0] == "(":
            literal = found[at + 2] if follows[2:] == [")"] and found[at + 2].kind == "text" else None
            _check_call(token.text, literal, is_method=before == ".", is_empty=follows[1:2] == [")"])


def _ends_a_value(found: list[cost.Token], at: int) -> bool:
    """Whether the token is the end of something that can have members."""
    if at < 0:
        return False
    token = found[at]
    return token.kind != "mark" or token.text in ")]}" or token.text.isdigit()


def _check_call(name: str, literal: cost.Token | None, *, is_method: bool, is_empty: bool) -> None:
    """A regular expression or a time zone is one valid literal: a caller's own could take long, or name a file."""
    if name == "matches":
        if not is_method:
            raise Fault("'matches' is called on a value: x.matches(…)")
        if literal is None:
            raise Fault("'matches' takes one regular expression, written as a string")
        if not is_sound(f'"".matches({literal.text})'):
            raise Fault("not a regular expression")
    elif name in _OF_TIME and not is_empty:
        if literal is None:
            raise Fault(f"{name!r} takes one time zone, written as a string")
        if not is_sound(f"timestamp(0).{name}({literal.text})"):
            raise Fault(f"not a time zone: {literal.text}")
    elif name in {"timestamp", "duration"} and literal is not None and not is_sound(f"{name}({literal.text})"):
        raise Fault(f"not a {name}: {literal.text}")
