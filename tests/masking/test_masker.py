import json
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.masking.detectors import DETECTORS
from coatcheck.masking.masker import Masker, _Allowance
from coatcheck.masking.protected import NOTHING
from coatcheck.masking.strings import MAX_TEXT_JSON, TooCostly
from coatcheck.mcp.strict_json import dump_json, parse_json
from coatcheck.policy.model import MaskRule

EVERYTHING = ("email", "credit-card", "iban")
CARD = "4111111111111111"


def masker(*fields, detect=(), form="redact", key=b"k"):
    return Masker([MaskRule("pd", "shop", tuple(detect), fields, form)], key=key)


def masked(value, *fields, detect=(), form="redact"):
    return masker(*fields, detect=detect, form=form).mask_json(value, Counter())


def message_masked(message, *fields, detect=(), form="redact"):
    return masker(*fields, detect=detect, form=form).mask_message(message, Counter())


def test_a_masker_without_rules_is_false_and_changes_nothing():
    empty = Masker([], key=b"k")
    assert not empty
    assert masker(detect=["email"])
    value = {"mail": "bob@example.com"}
    assert empty.mask_json(value, Counter()) is value


@pytest.mark.parametrize(
    ("rule", "what"),
    [(MaskRule("a", "s", detect=("ssn",)), "unknown detector 'ssn'"), (MaskRule("a", "s", fields=("ssn",)), "path")],
    ids=["detector", "path"],
)
def test_a_rule_that_cannot_work_is_refused(rule, what):
    with pytest.raises(ValueError, match=what):
        Masker([rule], key=b"k")


FORMS = {
    "redact": "to [redacted], card [redacted], [redacted].",
    "partial": "to b***@e***.com, card ****1111, ****5432.",
}


@pytest.mark.parametrize("form", FORMS)
def test_finds_are_replaced_in_the_form_of_their_rule(form):
    text = "to bob@example.com, card 4111 1111 1111 1111, GB82 WEST 1234 5698 7654 32."
    hits = Counter()
    assert masker(detect=EVERYTHING, form=form).mask_text(text, hits) == FORMS[form]
    assert hits == {"pd": 3}


def test_a_hash_is_stable_under_one_key_and_says_nothing_without_it():
    text = "bob@example.com"
    one, again, other = (
        masker(detect=["email"], form="hash", key=key).mask_text(text, Counter()) for key in (b"a", b"a", b"b")
    )
    assert one == again != other
    assert one.startswith("hash:")
    assert len(one) == len("hash:") + 12


FIELDS = {
    "text": ("123-45-6789", "redact", "[redacted]"),
    "text in part": ("123-45-6789", "partial", "1***9"),
    "short text in part": ("1234", "partial", "***"),
    "a number": (5, "redact", 0),
    "a fraction": (5.5, "partial", 0),
    "true": (True, "redact", False),
    "null": (None, "redact", None),
    "an object": ({"a": "x", "b": [1, True, None]}, "redact", {"a": "[redacted]", "b": [0, False, None]}),
    "an array": (["x", {"y": 2}], "redact", ["[redacted]", {"y": 0}]),
}


@pytest.mark.parametrize(("value", "form", "expected"), FIELDS.values(), ids=FIELDS)
def test_a_field_keeps_its_type(value, form, expected):
    result = masked({"ssn": value, "other": value}, "$.ssn", form=form)
    assert result == {"ssn": expected, "other": value}
    assert type(result["ssn"]) is type(expected)


REACHED = {
    "$.a.b": ({"a": {"b": "x", "c": "x"}, "b": "x"}, {"a": {"b": "[redacted]", "c": "x"}, "b": "x"}),
    "$..ssn": ({"ssn": "x", "a": [{"ssn": "y"}]}, {"ssn": "[redacted]", "a": [{"ssn": "[redacted]"}]}),
    "$.rows[*].ssn": ({"rows": [{"ssn": "x", "id": "i"}, {}]}, {"rows": [{"ssn": "[redacted]", "id": "i"}, {}]}),
    "$.rows[1]": ({"rows": ["x", "y"]}, {"rows": ["x", "[redacted]"]}),
    "$['a b']": ({"a b": "x"}, {"a b": "[redacted]"}),
    "$..user.ssn": ({"x": {"user": {"ssn": "y", "n": "z"}}}, {"x": {"user": {"ssn": "[redacted]", "n": "z"}}}),
    "$.*": ({"a": "x", "b": 1}, {"a": "[redacted]", "b": 0}),
    "$": (["x", 1], ["[redacted]", 0]),
    "$.missing": ({"a": "x"}, {"a": "x"}),
    "$.a.missing": ({"a": {"b": "x"}}, {"a": {"b": "x"}}),
}


@pytest.mark.parametrize("path", REACHED)
def test_a_path_leads_to_its_field_and_no_other(path):
    value, expected = REACHED[path]
    assert masked(value, path) == expected


ELSEWHERE = {
    "an array where an object was expected": ("$.user.ssn", {"user": [{"ssn": "x"}, "y"]}),
    "text where an object was expected": ("$.user.ssn", {"user": "x"}),
    "a number where an object was expected": ("$.user.ssn", {"user": 5}),
    "text where an array was expected": ("$.user[*]", {"user": "x"}),
    "an object where an index was expected": ("$.user[0]", {"user": {"a": "x"}}),
    "text where an object was expected, deep": ("$..user.ssn", {"a": {"user": "x"}}),
    "objects of text where objects were expected": ("$.user[*].ssn", {"user": {"a": "x"}}),
}


@pytest.mark.parametrize(("path", "value"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_value_of_another_kind_than_the_path_expects_is_masked_whole(path, value):
    shown = json.dumps(masked(value, path))
    assert not any(secret in shown for secret in ('"x"', '"y"', "5"))


def test_names_are_text_too_and_none_is_lost():
    value = {"bob@example.com": 1, "amy@example.com": 2, "plain": 3}
    assert masked(value, detect=["email"]) == {"[redacted]": 1, "[redacted]#2": 2, "plain": 3}


@pytest.mark.parametrize(
    ("number", "shown"), [(int(CARD), 0), (-int(CARD), 0), (float(CARD), 0), (1732424321123, 1732424321123)]
)
def test_a_card_number_that_came_as_a_number_becomes_zero(number, shown):
    assert masked({"pan": number}, detect=["credit-card"]) == {"pan": shown}


def test_a_value_with_nothing_to_mask_is_the_same_object():
    value = {"a": ["x", {"b": "user at example.com"}], "json": '{"a": "b"}', "n": [1.5, 7, None, True]}
    assert masked(value, "$..ssn", detect=EVERYTHING) is value
    assert masker("$..ssn", detect=EVERYTHING).mask_message([value], Counter()) == [value]


JSON_TEXTS = {
    "compact": '{"ssn":"123","mail":"bob@example.com","n":1}',
    "printed": '{\n  "ssn": "123",\n  "mail": "bob@example.com",\n  "n": 1\n}',
    "escaped": '{"s\\u0073n":"123","mail":"bob\\u0040example.com","n":1}',
}


@pytest.mark.parametrize("text", JSON_TEXTS.values(), ids=JSON_TEXTS)
def test_json_in_a_string_is_masked_as_json(text):
    expected = '{"ssn":"[redacted]","mail":"[redacted]","n":1}'
    assert masked({"text": text}, "$.ssn", detect=["email"]) == {"text": expected}
    assert masker("$.ssn", detect=["email"]).mask_text(text, Counter()) == expected


def test_json_in_a_string_in_json_in_a_string_is_masked_too():
    inner = json.dumps({"ssn": "123"})
    outer = json.dumps({"text": inner})
    assert "123" not in masked([outer], "$..ssn")[0]


EMBEDDED = {
    "json lines": ('{"ssn":"123"}\n{"ssn":"456","n":1}\n', '{"ssn":"[redacted]"}\n{"ssn":"[redacted]","n":1}\n'),
    "documents in a row": ('{"ssn":"1"}{"ssn":"2"}', '{"ssn":"[redacted]"}{"ssn":"[redacted]"}'),
    "after a few words": ('found {"ssn": "123"} for bob@x.co', 'found {"ssn":"[redacted]"} for [redacted]'),
    "in a fence": ('```json\n[\n {"ssn": "123"}\n]\n```', '```json\n[{"ssn":"[redacted]"}]\n```'),
    "by an escape": ('see {"s\\u0073n":"123"}', 'see {"ssn":"[redacted]"}'),
    "a card as a number": (f'{{"a":{CARD}}}\n{{"a":1}}', '{"a":0}\n{"a":1}'),
    "json in a string in json": ('as {"a":"[{\\"ssn\\":\\"1\\"}]"}', 'as {"a":"[{\\"ssn\\":\\"[redacted]\\"}]"}'),
    "beside what is no document": ('{"a": x} {"b": {"ssn":"1"} y}', '{"a": x} {"b": {"ssn":"[redacted]"} y}'),
}


@pytest.mark.parametrize(("text", "expected"), EMBEDDED.values(), ids=EMBEDDED)
def test_documents_in_a_text_are_masked_as_json_and_the_rest_as_text(text, expected):
    assert masked({"text": text}, "$..ssn", detect=EVERYTHING) == {"text": expected}
    assert masker("$..ssn", detect=EVERYTHING).mask_text(text, Counter()) == expected


def test_a_string_that_only_looks_like_json_is_masked_as_text():
    for text in ('{"a": bob@example.com}', "{bob@example.com}", "[bob@example.com]", '{"a":"bob@example.com","a":1}'):
        assert masked(text, detect=["email"]) == text.replace("bob@example.com", "[redacted]")


UNREAD = {
    "a member twice": '{"ssn":"123","a":1,"a":2}',
    "the member itself twice": '{"ssn":"123","ssn":"456"}',
    "what is no number to some": '{"ssn":"123","a":NaN}',
    "a number too large": '{"ssn":"123","a":1e999}',
    "a number too long": '{"ssn":"123","a":' + "1" * 5000 + "}",
    "half of a pair": '{"ssn":"123","a":"\\ud800"}',
    "a name in escapes": '{"s\\u0073n":"123","a":1,"a":2}',
    "a line's end in a string": '{"a":"x\ny","ssn":"123"}',
    "nested too deeply": '{"ssn":"123","a":' + "[" * 70 + "]" * 70 + "}",
    "nested beyond reading": '{"ssn":"123","a":' + "[" * 40_000 + "]" * 40_000 + "}",
    "more than is read": json.dumps({"a": "x" * MAX_TEXT_JSON, "ssn": "123"}),
    "strings in strings in strings": json.dumps(
        {"a": json.dumps({"a": json.dumps({"a": json.dumps({"ssn": "123"})})})}
    ),
}


@pytest.mark.parametrize("text", UNREAD.values(), ids=UNREAD)
def test_json_that_is_not_read_here_but_may_be_by_a_client_is_covered_where_a_field_may_be_in_it(text):
    assert "123" not in masked({"text": text}, "$..ssn")["text"]
    other = text.replace("ssn", "sum").replace("s\\u0073n", "sum")
    if "\\u" not in other:  # an escape may write any name
        assert masked({"text": other}, "$..ssn")["text"].count("123") == 1
    around = masked({"text": f"Found: {text}\nand more"}, "$..ssn")["text"]
    assert around.startswith("Found: ") or len(text) > MAX_TEXT_JSON
    assert "123" not in around


@pytest.mark.parametrize("text", [*UNREAD.values(), '{"ssn":"123"}', '{"b":"\\n","a":[{"ssn":"123"}]}'])
@pytest.mark.parametrize("before", ["", "Found: "])
def test_a_path_to_any_depth_leads_into_json_in_a_string(text, before):
    text = before + text
    for value in ({"content": [{"text": text}]}, {"content": [text] * 9}, {"content": json.dumps([text])}):
        assert "123" not in json.dumps(masked(value, "$.content..ssn"))
        other = json.loads(json.dumps(value).replace("content", "other"))
        assert "\\u" in text or masked(other, "$.content..ssn") == other  # an escape may write any name


@pytest.mark.parametrize("cut", ["", "...", "\u2026", " [cut off after 99 characters]"])
@pytest.mark.parametrize("before", ["", "Found: "])
def test_a_field_in_a_document_that_was_cut_off_is_covered(before, cut):
    whole = '{"rows":[{"id":1,"ssn":"123"},{"id":2,"ok":true,"ssn":"456","note":"\\"x"}]}'
    for end in range(whole.index("123") + 3, len(whole)):
        shown = masked([before + whole[:end] + cut], "$.rows[*].ssn")[0]
        assert "123" not in shown
        assert "45" not in shown
        assert masked([before + whole[:end] + cut], "$.other[*].ssn") == [before + whole[:end] + cut]
    assert masked(['{"a": f(x)}, ssn of {"b": y()} 123'], "$..ssn") == ['{"a": f(x)}, ssn of {"b": y()} 123']


@pytest.mark.parametrize("value", [{"id": 1, "ssn": "123"}, {"a": json.dumps({"ssn": "123"})}], ids=["once", "twice"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_in_the_quotes_of_a_log_is_covered_to_the_end_of_its_line(value, indent):
    line = f"level=info body={json.dumps(json.dumps(value, indent=indent))}"
    shown = masked([f"{line}\nssn next"], "$..ssn")[0]
    assert (shown.startswith("level=info body="), shown.endswith("\nssn next")) == (True, True)
    assert "123" not in shown
    assert masked([f"{line}\nssn next"], "$..sum") == [f"{line}\nssn next"]
    assert masked([r'G{\"o}del: "ssn"'], "$..ssn") == [r'G{\"o}del: "ssn"']


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("value", [{"ssn": "123", "kept": 1}, [{"ssn": "123", "ssN": 1}], '{"ssn":"123","a":1,"a":2}'])
def test_json_that_was_written_as_json_more_than_once_is_masked_as_json(value, times):
    text = value if isinstance(value, str) else json.dumps(value)
    for _ in range(times):
        text = json.dumps(text)
    for around in (text, {"content": [{"text": text}]}):
        assert "123" not in json.dumps(masked(around, "$..ssn"))
        assert masked(around, "$..sum") == around
    if times == 1 and not isinstance(value, str):
        assert json.loads(json.loads(masked(text, "$..ssn"))) == masked(value, "$..ssn")


@pytest.mark.parametrize("text", ['"a\\o" she said, "ssn 123"', r'"ssn" \ "123"', '"ssn \\n 123"', '"\\'])
def test_what_is_quoted_and_no_json_stays(text):
    assert masked([text, {"ssn": "9"}], "$..ssn") == [text, {"ssn": "[redacted]"}]


def test_what_hides_behind_text_that_is_read_in_vain_is_covered():
    text = '{"a":' * 20_000 + '\n{"ssn":"123"}'
    assert "123" not in masked(text, "$..ssn")


def test_names_that_differ_in_case_hide_no_field():
    assert masked('{"ssn":"123","a":1,"A":2}', "$..ssn") == '{"ssn":"[redacted]","a":1,"A":2}'


def test_a_string_is_written_anew_only_when_something_in_it_changed():
    text = '{ "a": 1,  "mail": "none" }'
    assert masked([text, "bob@example.com"], "$..ssn", detect=["email"]) == [text, "[redacted]"]


RESPONSE = {
    "jsonrpc": "2.0",
    "id": "bob@example.com",
    "result": {
        "content": [{"type": "text", "text": '{"ssn":"123","id":"amy@example.com"}'}],
        "structuredContent": {"ssn": "123", "id": "amy@example.com", "nextCursor": "amy@example.com"},
        "_meta": {"progressToken": "bob@example.com", "note": "amy@example.com"},
        "nextCursor": "bob@example.com",
        "requestState": f"{CARD}",
        "resultType": "complete",
        "task": {"taskId": "bob@example.com", "statusMessage": "for amy@example.com"},
        "tasks": [{"taskId": "bob@example.com"}],
        "ttlMs": int(CARD),
        "cacheScope": "private",
    },
}


def test_what_the_protocol_needs_is_kept_and_all_else_is_masked():
    shown = message_masked(RESPONSE, "$.ssn", detect=EVERYTHING)
    assert shown == {
        "jsonrpc": "2.0",
        "id": "bob@example.com",
        "result": {
            "content": [{"type": "text", "text": '{"ssn":"[redacted]","id":"[redacted]"}'}],
            "structuredContent": {"ssn": "[redacted]", "id": "[redacted]", "nextCursor": "[redacted]"},
            "_meta": {"progressToken": "bob@example.com", "note": "[redacted]"},
            "nextCursor": "bob@example.com",
            "requestState": f"{CARD}",
            "resultType": "complete",
            "task": {"taskId": "bob@example.com", "statusMessage": "for [redacted]"},
            "tasks": [{"taskId": "bob@example.com"}],
            "ttlMs": int(CARD),
            "cacheScope": "private",
        },
    }


@pytest.mark.parametrize(
    "path",
    ["$.result.content[*].text", "$.content[*].text", "$..text"],
    ids=["from the message", "from its result", "from anywhere"],
)
def test_a_field_path_is_tried_from_the_message_and_from_its_result(path):
    message = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "private"}]}}
    assert message_masked(message, path)["result"] == {"content": [{"type": "text", "text": "[redacted]"}]}


def test_a_field_path_masks_structured_content_and_its_copy_in_text():
    data = {"rows": [{"ssn": "123"}]}
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"content": [{"text": json.dumps(data)}], "structuredContent": data},
    }
    shown = message_masked(message, "$.rows[*].ssn")["result"]
    assert shown["structuredContent"] == json.loads(shown["content"][0]["text"]) == {"rows": [{"ssn": "[redacted]"}]}


@pytest.mark.parametrize("path", ["$", "$..*", "$.result", "$..id", "$..taskId", "$..nextCursor"])
def test_no_field_path_reaches_what_the_protocol_needs(path):
    kept = {"nextCursor": "c", "requestState": "s", "taskId": "t", "resultType": "complete"}
    message = {"jsonrpc": "2.0", "id": 7, "result": kept}
    assert message_masked(message, path) == message


OTHERS = {
    "an error": (
        {"error": {"code": 4030, "message": "no bob@x.co", "data": {"m": "bob@x.co"}}},
        ["error", "code"],
        4030,
    ),
    "a progress notification": (
        {"method": "notifications/progress", "params": {"progressToken": "bob@x.co", "message": "bob@x.co"}},
        ["params", "progressToken"],
        "bob@x.co",
    ),
    "a log message": (
        {"method": "notifications/message", "params": {"data": "bob@x.co"}},
        ["method"],
        "notifications/message",
    ),
    "a request": ({"method": "tools/call", "params": {"arguments": {"to": "bob@x.co"}}}, ["method"], "tools/call"),
    "a finished task": (
        {"result": {"taskId": "t", "result": {"content": [{"text": "bob@x.co"}], "nextCursor": "bob@x.co"}}},
        ["result", "result", "nextCursor"],
        "bob@x.co",
    ),
}


@pytest.mark.parametrize(("message", "path", "kept"), OTHERS.values(), ids=OTHERS)
def test_every_kind_of_message_is_masked(message, path, kept):
    hits = Counter()
    shown = masker(detect=["email"]).mask_message({"jsonrpc": "2.0"} | message, hits)
    assert hits["pd"] >= 1 or "bob@x.co" not in json.dumps(message)
    for step in path:
        shown = shown[step]
    assert shown == kept


def test_a_batch_is_masked_message_by_message():
    batch = [{"jsonrpc": "2.0", "id": "bob@x.co", "result": {"m": "bob@x.co"}}]
    assert message_masked(batch, detect=["email"]) == [
        {"jsonrpc": "2.0", "id": "bob@x.co", "result": {"m": "[redacted]"}}
    ]


TOOL = {
    "name": "find_person",
    "description": "ask bob@example.com",
    "inputSchema": {
        "type": "object",
        "properties": {"ssn": {"type": "string", "description": "or amy@example.com", "default": "amy@example.com"}},
        "required": ["ssn"],
    },
    "outputSchema": {"type": "object", "properties": {"ssn": {"type": "string"}, "email": {"type": "string"}}},
}


@pytest.mark.parametrize("path", ["$..ssn", "$..properties", "$..type", "$..name", "$.tools", "$..*", "$"])
def test_no_field_path_reaches_into_a_schema_or_renames_a_tool(path):
    message = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [TOOL], "structuredContent": {"ssn": "1", "type": "x"}}}
    (tool,) = message_masked(message, path)["result"]["tools"]
    assert tool == TOOL | {"description": tool["description"]}


def test_what_stands_for_a_schema_but_is_none_is_masked_like_all_else():
    tool = {"name": "t", "inputSchema": "bob@example.com", "outputSchema": int(CARD)}
    (shown,) = message_masked({"result": {"tools": [tool]}}, detect=EVERYTHING)["result"]["tools"]
    assert shown == {"name": "t", "inputSchema": "[redacted]", "outputSchema": 0}


def test_detectors_mask_what_people_read_in_a_schema_and_leave_the_rest():
    (tool,) = message_masked({"result": {"tools": [TOOL]}}, "$..ssn", detect=["email"])["result"]["tools"]
    described = {"type": "string", "description": "or [redacted]", "default": "amy@example.com"}
    assert tool["description"] == "ask [redacted]"
    assert tool["inputSchema"] == TOOL["inputSchema"] | {"properties": {"ssn": described}}
    assert tool["outputSchema"] == TOOL["outputSchema"]


def test_json_in_a_description_is_masked_by_detectors_alone():
    text = json.dumps({"ssn": "1", "mail": "bob\nbob@example.com"})
    tool = TOOL | {"inputSchema": {"type": "object", "description": text}}
    (shown,) = message_masked({"result": {"tools": [tool]}}, "$..ssn", detect=["email"])["result"]["tools"]
    assert json.loads(shown["inputSchema"]["description"]) == {"ssn": "1", "mail": "bob\n[redacted]"}


def test_the_arguments_a_prompt_takes_are_definitions_and_those_of_a_call_are_data():
    arguments = [{"name": "ssn", "description": "as bob@example.com writes it", "required": True}]
    prompts = {"result": {"prompts": [{"name": "greet", "arguments": arguments}]}}
    shown = message_masked(prompts, "$..name", "$..required", "$..arguments", detect=["email"])
    assert shown["result"]["prompts"] == [
        {"name": "greet", "arguments": [arguments[0] | {"description": "as [redacted] writes it"}]}
    ]
    call = {"method": "tools/call", "params": {"name": "t", "arguments": {"ssn": "1", "inputSchema": {"ssn": "1"}}}}
    assert message_masked(call, "$..ssn")["params"]["arguments"] == {
        "ssn": "[redacted]",
        "inputSchema": {"ssn": "[redacted]"},
    }


def test_the_form_a_server_asks_to_be_filled_in_keeps_its_schema():
    params = {"message": "for bob@example.com", "requestedSchema": TOOL["outputSchema"]}
    asked = {"result": {"inputRequests": {"ssn": {"method": "elicitation/create", "params": params}}}}
    (shown,) = message_masked(asked, "$..ssn.params", "$..method", detect=["email"])["result"]["inputRequests"].values()
    assert shown["method"] == "elicitation/create"
    assert shown["params"]["requestedSchema"] == TOOL["outputSchema"]
    assert "bob" not in shown["params"]["message"]


IN_TEXT = {
    "a value": ('{ "a": "bob@example.com" }', '{ "a": "[redacted]" }'),
    "two in one value": ('{"a": "bob@example.com, amy@example.com"}', '{"a": "[redacted], [redacted]"}'),
    "a name": ('{"bob@example.com":1,"amy@example.com":2}', '{"[redacted]":1,"[redacted]#2":2}'),
    "a number": (f'{{"a": {CARD}, "b": "bob@example.com"}}', '{"a":0,"b":"[redacted]"}'),
    "json in json": (f'{{"a": "[{CARD}]"}}', '{"a":"[0]"}'),
    "beside an escape": ('{"a": "x\\nGB82WEST12345698765432"}', '{"a":"x\\n[redacted]"}'),
    "one that stands alone later": (f'{{"a":"{CARD}GB82WEST12345698765432"}}', '{"a":"[redacted][redacted]"}'),
}


@pytest.mark.parametrize(("text", "expected"), IN_TEXT.values(), ids=IN_TEXT)
def test_json_in_a_string_stays_json_whatever_is_found_in_it(text, expected):
    assert masked([text], detect=EVERYTHING) == [expected]
    json.loads(expected)


def test_a_find_in_a_long_array_is_not_passed_over():
    rows = [{"n": number, "mail": "none", "more": ["x"] * 20} for number in range(50)]
    rows[40] = rows[40] | {"mail": "bob@example.com"}
    shown = message_masked({"result": {"a": rows, "b": [["y"] * 20] * 20}}, detect=EVERYTHING)["result"]
    assert [row["mail"] for row in shown["a"]] == ["none"] * 40 + ["[redacted]"] + ["none"] * 9
    assert shown["a"][0] is rows[0]


HIDDEN = {
    "a field by an escape": ('{"s\\u0073n":"123"}', '{"ssn":"[redacted]"}'),
    "an address by an escape": ('{"a":"bob\\u0040example.com"}', '{"a":"[redacted]"}'),
    "a card by escapes": ('{"a":"\\u00344111111111111111"}', '{"a":"[redacted]"}'),
    "a field with a slash": ('{"a\\/b":"123"}', '{"a/b":"[redacted]"}'),
}


@pytest.mark.parametrize(("text", "expected"), HIDDEN.values(), ids=HIDDEN)
def test_the_quick_search_is_not_deceived_by_escapes(text, expected):
    text = text.replace("\\u00344111111111111111", "\\u0034111111111111111")
    assert masked({"text": text}, "$..ssn", "$['a/b']", detect=EVERYTHING) == {"text": expected}


def test_the_stricter_form_wins_whatever_the_order_of_the_rules():
    rules = [MaskRule(form, "s", ("email",), ("$.ssn",), form) for form in ("partial", "hash", "redact")]
    for ordered in (rules, rules[::-1]):
        hits = Counter()
        value = {"ssn": "12345", "mail": "bob@example.com"}
        assert Masker(ordered, key=b"k").mask_json(value, hits) == {"ssn": "[redacted]", "mail": "[redacted]"}
        assert hits == {"redact": 2}


def test_finds_that_overlap_are_taken_out_as_one():
    assert masker(detect=EVERYTHING).mask_text(f"x {CARD}@example.com y", Counter()) == "x [redacted] y"


def test_a_find_that_stands_alone_only_once_another_is_taken_out_is_taken_out_too():
    hits = Counter()
    assert masker(detect=EVERYTHING).mask_text(f"{CARD}GB82WEST12345698765432", hits) == "[redacted][redacted]"
    assert hits == {"pd": 2}


texts = st.lists(
    st.sampled_from(
        [
            "bob@example.com",
            CARD,
            "4111 1111 1111 1111",
            "1111",
            " ",
            "-",
            "GB82WEST12345698765432",
            "MT84MALT",
            "a",
            "{",
            *(
                "MT84MALT011000012345MTLCAST001S",
                '"',
                "[",
                "}",
                "]",
                ":",
                "ssn",
                "\\",
                "\n",
                "@",
                ".",
                "5390",
                "7034",
                "é",
                "bob%40x.de",
                "%40",
                "&#64;",
                "\\u0040",
                "\u200b",
                "\xa01111",
                "\uff14",
            ),
        ]
    ),
    max_size=7,
).map("".join)
names = st.sampled_from(["ssn", "id", "result", "bob@example.com", "a", "text"])
leaves = texts | st.integers() | st.just(int(CARD)) | st.booleans() | st.none()
values = st.recursive(
    leaves | st.dictionaries(names, leaves, max_size=3).map(json.dumps),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
paths = st.sampled_from(["$..ssn", "$.a", "$.a.id", "$[*]", "$..text", "$.ssn[0]"])


def shape(value):
    match value:
        case dict():
            return [shape(member) for member in value.values()]
        case list():
            return [shape(element) for element in value]
        case bool() | None:
            return type(value)
        case int() | float():
            return "number"
        case _:
            return type(value)


@settings(max_examples=150)
@given(values, paths)
def test_masking_twice_is_masking_once(value, path):
    rules = masker(path, detect=EVERYTHING)
    once = rules.mask_json(value, Counter())
    hits = Counter()
    assert rules.mask_json(once, hits) == once
    assert hits["pd"] == 0


@settings(max_examples=150)
@given(values, paths, st.sampled_from(["redact", "partial", "hash"]))
def test_masking_never_changes_a_type_or_a_shape(value, path, form):
    before = json.dumps(value)
    assert shape(masked(value, path, detect=EVERYTHING, form=form)) == shape(value)
    assert json.dumps(value) == before


rows = st.lists(values, min_size=8, max_size=10) | values


@settings(max_examples=75)
@given(st.lists(rows, max_size=2), paths)
def test_the_quick_search_and_the_thorough_one_agree(value, path):
    quick, thorough = Counter(), Counter()
    rules = masker(path, detect=EVERYTHING)
    shown = rules.mask_json(value, quick)
    assert shown == rules._walked(value, thorough, NOTHING, 0, _Allowance(10**9), ())
    assert quick == thorough


@settings(max_examples=200)
@given(values | st.floats(10**12, 10**19).map(lambda number: [number]), paths)
def test_what_a_value_is_written_as_changes_nothing_of_how_it_is_masked(value, path):
    one = masker(path, detect=EVERYTHING)
    for written in (dump_json(value), json.dumps(value, indent=1).encode()):
        assert one.mask_json(value, Counter(), written=written) == one.mask_json(value, Counter())
        assert one.mask_message(value, Counter(), written=written) == one.mask_message(value, Counter())


def test_what_a_value_is_written_as_can_tell_that_it_holds_nothing():
    value = {"email": "bob@example.com"}
    assert masker(detect=["email"]).mask_json(value, Counter(), written=b"{}") is value


@settings(max_examples=100)
@given(values)
def test_nothing_that_a_detector_finds_is_left(value):
    shown = json.dumps(masked(value, detect=EVERYTHING))
    assert "bob@example.com" not in shown
    assert "bob%40x.de" not in shown
    assert f" {CARD} " not in f" {shown} ".replace('"', " ")


@settings(max_examples=100)
@given(values, st.integers() | texts)
def test_the_id_of_any_message_is_kept(value, request_id):
    message = {"jsonrpc": "2.0", "id": request_id, "result": value}
    assert message_masked(message, "$..id", "$..*", detect=EVERYTHING)["id"] == request_id


ADVERSARIAL = {
    "addresses": lambda size: " ".join(["a@b.co"] * (size // 7)),
    "cards": lambda size: " ".join([CARD] * (size // 17)),
    "strings like json": lambda size: ['{"a@b.co"}'] * (size // 12),
    "names": lambda size: {f"{number}@b.co": 1 for number in range(size // 12)},
    "open brackets": lambda size: "[" * size,
    "backslashes": lambda size: '["' + "\\\\" * (size // 2) + '"]',
    "quotes": lambda size: '{"' * (size // 2) + "}",
    "objects without end": lambda size: '{"ssn":' * (size // 8) + "}",
    "objects in text": lambda size: 'x {"ssn":"1"}' * (size // 13),
    "ssns": lambda size: [{"ssn": "1"}] * (size // 12),
}


@pytest.mark.parametrize("grow", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_time_grows_with_the_size_of_the_value(grow):
    rules = masker("$..ssn", "$..a..b..c", detect=EVERYTHING, form="hash")

    def seconds(size):
        value = grow(size)
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            rules.mask_json(value, Counter())
            best = min(best, time.thread_time() - began)
        return best

    # Eight times the size: a linear masker takes about eight times as long, a quadratic one 64 times.
    assert seconds(64_000) < 24 * seconds(8_000) + 0.002


ADDRESSES = "a@b.cc " * 50


@pytest.mark.parametrize(
    "value",
    [ADDRESSES, [ADDRESSES], {"x": json.dumps({"y": ADDRESSES})}, {"x": json.dumps({"y": json.dumps([ADDRESSES])})}],
    ids=["text", "array", "JSON in a string", "twice over"],
)
def test_what_has_too_many_places_to_look_at_is_not_masked_at_all(value) -> None:
    every = masker(detect=EVERYTHING)
    assert "a@b" not in json.dumps(every.mask_json(value, Counter(), places=500))
    with pytest.raises(TooCostly):
        every.mask_json(value, Counter(), places=20)


def test_a_text_full_of_broken_documents_is_searched_as_text() -> None:
    text = '{"sum":' * 2_000 + " bob@x.co"
    assert masked([text], "$..ssn", detect=EVERYTHING) == [text.replace("bob@x.co", "[redacted]")]


def test_json_in_a_string_with_more_values_than_a_body_may_have_is_not_masked_at_all() -> None:
    every = masker("$..ssn", detect=EVERYTHING)
    fine, too_much = ({"x": json.dumps([{"ssn": "1"}, *[[]] * count])} for count in (1_000, 120_000))
    assert '"1"' not in json.dumps(every.mask_json(fine, Counter()))
    with pytest.raises(TooCostly):
        every.mask_json(too_much, Counter())


@given(st.text(st.sampled_from("a@b.c 4111-DE9"), max_size=80))
def test_places_are_as_many_as_finds_to_within_a_small_factor(text) -> None:
    for detector in DETECTORS.values():
        assert len(list(detector.spans(text))) <= 7 * detector.places(text.encode())


@pytest.mark.parametrize("before", range(12))
def test_a_card_number_in_an_exponent_is_found_wherever_slices_end(before: int, monkeypatch) -> None:
    monkeypatch.setattr("coatcheck.masking.masker.SLICE", 5)
    written = b'{"%s":4.111111111111111e15}' % (b"a" * before)
    value = parse_json(written)
    assert masker(detect=["credit-card"]).mask_json(value, Counter(), written=written) != value


@pytest.mark.parametrize("escape", ["&#97;", "%61", "\\u0061", "\\x61"])
def test_a_text_with_too_many_escapes_is_refused_before_one_is_read(escape: str, monkeypatch) -> None:
    fine = escape * 800
    assert masker(detect=["email"]).mask_text(fine, Counter(), places=100) == fine
    monkeypatch.setattr("coatcheck.masking.rules.plain", None)
    with pytest.raises(TooCostly):
        masker(detect=["email"]).mask_text(escape * 810, Counter(), places=100)
