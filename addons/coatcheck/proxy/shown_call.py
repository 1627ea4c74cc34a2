"""What reviewers are shown of a request that is held.

Law: all that the approval is for is shown, masked, or its digest where it is too long: nobody decides on a part of it.
"""

import json
from collections import Counter
from collections.abc import Sequence

from coatcheck.errors import Refusal
from coatcheck.http.paths import starred
from coatcheck.masking.masker import Masker
from coatcheck.masking.rules import REDACTED
from coatcheck.masking.strings import TooCostly
from coatcheck.mcp.call import Call, Json
from coatcheck.mcp.size import check_size
from coatcheck.mcp.strict_json import parse_json


def shown_call(calls: Sequence[Call], body: bytes, masker: Masker, query: str = "") -> str:
    """The calls' arguments as indented JSON. `body` is the request's, shown where it is a plain HTTP API's; `query` is
    that of the URL where the calls do not have it.
    """
    try:
        shown = [_http(call, body, masker) if call.kind == "http" else _mcp(call, masker) for call in calls]
        beside = masker.mask_json({"query": starred(f"?{query}")[1:]}, Counter())
    except TooCostly:
        return REDACTED
    asked: Json = shown[0] if len(shown) == 1 else shown
    whole: Json = {**beside, "asked": asked} if query and isinstance(beside, dict) else asked
    return json.dumps(whole, ensure_ascii=False, indent=2)


def _mcp(call: Call, masker: Masker) -> Json:
    """The arguments alone, or all parameters where there are others."""
    are_all = call.params.keys() <= {"name", "arguments"}
    return masker.mask_json(dict((are_all and call.arguments) or call.params), Counter())


def _http(call: Call, body: bytes, masker: Masker) -> Json:
    query = call.params.get("query")
    asked = {**call.params, "query": starred(f"?{query}")[1:]} if query else dict(call.params)
    shown = masker.mask_json(asked, Counter())
    return {**shown, "body": _body(body, masker)} if body and isinstance(shown, dict) else shown


def _body(body: bytes, masker: Masker) -> Json:
    try:
        check_size(body)
        value = parse_json(body)
    except Refusal:
        return masker.mask_text(body.decode("utf-8", "replace"), Counter())
    return masker.mask_json(value, Counter(), written=body)
