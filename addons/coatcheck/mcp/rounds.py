"""Multi-round-trip requests (MCP 2026-07-28 basic/patterns/mrtr): what a server asks by its answer, and what comes
back.

Law: a `requestState` comes back from the caller it was given to only, for a call of the same thing.
Law: a client's answer (`inputResponses`) is data that leaves for the server: it is a call like any other, of the method
that was asked. It leaves only where the server asked for it by its key, of this caller, with this state, for the same
thing; one that nobody asked for is taken out, as a server would ignore it (mrtr, "Error Handling"), and one of another
kind than was asked for is refused.
Law: memory is bounded for each caller on each server. A client that got no answer sends the same again, so what was
given counts more than once; nothing here outlives the process.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from coatcheck.errors import INVALID_PARAMS, INVALID_REQUEST, Refusal
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.correlation import Peers
from coatcheck.mcp.inspect import Inspected
from coatcheck.mcp.strict_json import dump_json

MAX_STATES = 1024
MAX_INPUTS = 1024
"""Things asked for by a key, of one caller on one server."""
RESPONSES = "inputResponses"

_UPDATE = "tasks/update"
_STATEFUL = frozenset({"tools/call", "prompts/get", "resources/read"})
"""The methods that may be answered with `input_required` (mrtr, "Supported Requests")."""
_TELLING = {"elicitation/create": "action", "roots/list": "roots", "sampling/createMessage": "model"}
"""What is asked, and a member that an answer to it has, and to the others has not (`InputResponse` in the schema)."""


@dataclass(slots=True)
class _Given:
    """What one server gave to one caller: states, and the methods it asked by key; both by digest."""

    states: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    inputs: OrderedDict[bytes, str] = field(default_factory=OrderedDict)


class Rounds:
    """What servers asked by their answers, of all callers."""

    def __init__(self) -> None:
        self._given: dict[Peers, _Given] = {}

    def give(self, peers: Peers, about: Call | None, asking: dict[str, Json]) -> None:
        """Notes what the answer to `about`, or a notification, asks: a result, or what says how a task stands."""
        state, asks, task_id = asking.get("requestState"), asking.get("inputRequests"), asking.get("taskId")
        given = self._of(peers)
        told = state if isinstance(state, str) else None
        places = [] if about is None else [(told, about.method, about.name)]
        if isinstance(task_id, str):
            places.append((None, _UPDATE, task_id))
        if told is not None and about is not None:
            _keep(given.states, _digest(told, about.method, about.name or ""), None, MAX_STATES)
        for key, asked in asks.items() if isinstance(asks, dict) else ():
            method = asked.get("method") if isinstance(asked, dict) else None
            for place in places if isinstance(method, str) else ():
                _keep(given.inputs, _of_key(*place, key), str(method), MAX_INPUTS)

    def take(self, peers: Peers, read: Inspected, *, has_states: bool) -> Inspected:
        """`read` with its answers as calls, without those that nobody asked for.

        Raises `Refusal` (400): `unknown-state` where `has_states` and the state is not one that was given for this
        call; `response-not-accepted`.
        """
        for call in read.calls:
            state = call.params.get("requestState")
            if has_states and isinstance(state, str) and call.method in _STATEFUL:
                self._check_state(peers, call, state)
        if not any(RESPONSES in call.params for call in read.calls):
            return read
        message = read.value
        params = message.get("params") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(params, dict):
            raise _refused(f"an array of messages has no {RESPONSES}")
        return self._with_answers(peers, read, message, params)

    def _with_answers(
        self, peers: Peers, read: Inspected, message: dict[str, Json], params: dict[str, Json]
    ) -> Inspected:
        call, *listened = read.calls
        responses, state = call.params[RESPONSES], call.params.get("requestState")
        if not isinstance(responses, dict):
            raise _refused(f"{RESPONSES} must be an object")
        inputs, told = self._of(peers).inputs, state if isinstance(state, str) else None
        asked = {key: inputs.get(_of_key(told, call.method, call.name, key)) for key in responses}
        answers = [_answer(method, responses[key]) for key, method in asked.items() if method is not None]
        if len(answers) == len(responses):
            return replace(read, calls=(*read.calls, *answers))
        kept: dict[str, Json] = {key: responses[key] for key, method in asked.items() if method is not None}
        value: dict[str, Json] = {**message, "params": {**params, RESPONSES: kept}}
        call = replace(call, params={**call.params, RESPONSES: kept})
        return replace(read, calls=(call, *listened, *answers), value=value, body=dump_json(value))

    def _check_state(self, peers: Peers, call: Call, state: str) -> None:
        if _digest(state, call.method, call.name or "") not in self._of(peers).states:
            message = "the request state is not one that was given for this call"
            raise Refusal("unknown-state", message, code=INVALID_PARAMS)

    def _of(self, peers: Peers) -> _Given:
        # large answers are read in threads: two must not each make one
        return self._given.get(peers) or self._given.setdefault(peers, _Given())


def _answer(method: str, response: Json) -> Call:
    """One answer as a call. Raises `Refusal` where it does not answer what was asked."""
    if not isinstance(response, dict):
        raise _refused("an answer must be an object")
    wanted = _TELLING.get(method)
    found = [member for member in _TELLING.values() if member in response]
    if wanted is not None and found != [wanted]:
        raise _refused(f"this is no answer to {method}, which the server asked")
    return Call("mcp", method, params={"result": response})


def _refused(message: str) -> Refusal:
    return Refusal("response-not-accepted", message, code=INVALID_REQUEST)


def _of_key(state: str | None, method: str, name: str | None, key: str) -> bytes:
    return _digest("" if state is None else f"={state}", method, name or "", key)


def _keep[K, V](where: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    where[key] = value
    where.move_to_end(key)
    if len(where) > most:
        where.popitem(last=False)


def _digest(*parts: str) -> bytes:
    """Texts of a server may be long, and states may hold data: neither is kept."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()
