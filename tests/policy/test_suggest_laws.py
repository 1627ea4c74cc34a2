"""The law of `suggest`: what it suggests decides the recording as it was decided, as text that the loader reads."""

import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.errors import PolicyError
from coatcheck.mcp.call import Call
from coatcheck.policy.asked import asked as asked_of
from coatcheck.policy.backtest import backtest, redecide
from coatcheck.policy.decide import decide
from coatcheck.policy.explain import as_caller
from coatcheck.policy.load import load_policy, read_sections
from coatcheck.policy.recorded import Recorded
from coatcheck.policy.suggest import STRICTNESS, suggest
from coatcheck.policy.trial import effect_of
from coatcheck.policy.write_yaml import suggested_policy

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
HEAD = """\
coatcheck: 1
gateway: {audience: https://gateway.example.com}
issuers: {github: {preset: github-actions}}
identities:
  shop-ci: {issuer: github, claims: {repository_id: "1"}, groups: [ci]}
  etl: {issuer: github, claims: {repository_id: "2"}}
reviewers: {desk: {local: [root]}, web: {mitmweb: console}}
servers:
  shop: {url: https://shop.example/mcp}
  api: {url: https://api.example}
"""
WHO = st.sampled_from(["[any]", "[any]", "[shop-ci]", "['group:ci']"])
EFFECTS = st.sampled_from(["allow", "allow", "approve", "deny"])
WHENS = st.sampled_from(["", "args.n < 3", '"n" in args && args.n != "x"', "size(args) > 0", "args == {}"])
WHAT = {
    "tools": [
        "tools: ['get_*']",
        "tools: ['*']",
        "tools: [drop, 'get_*']",
        "tools: ['*_user']",
        "methods: ['tools/*']",
    ],
    "rest": [
        "resources: ['file:///docs/*']",
        "resources: ['file:///docs/a', 'file:///docs/b', 'file:///docs/d']",
        "resources: ['file:///**']",
        "prompts: [plan]",
        "methods: [tasks/get]",
        "methods: [initialize]",
        "methods: [GET]",
        "methods: ['*/unsubscribe']",
    ],
    "http": ["http: ['GET /v1/**']", "http: ['* /v1/orders/*']", "http: ['POST /**']", "http: ['GET /v1/orders/2']"],
}
THEMES = st.sampled_from(sorted(WHAT))


@st.composite
def rule_lines(draw, theme):
    what, effect = draw(st.sampled_from(WHAT[theme])), draw(EFFECTS)
    if effect == "approve" and what in {"methods: [initialize]", "methods: [GET]"}:
        effect = "deny"
    server = "api" if theme == "http" else "shop"
    parts = [f"who: {draw(WHO)}", f"server: {server}", what, f"effect: {effect}"]
    if what.startswith("tools") and (when := draw(WHENS)):
        parts.append(f"when: '{when}'")
    if effect == "deny" and what.startswith("tools") and draw(st.booleans()):
        parts.append(f"deny_style: {draw(st.sampled_from(['tool_error', 'hide']))}")
    if effect != "deny" and draw(st.booleans()):
        parts.append("limit: 1/d")
    if effect == "approve":
        parts.append(f"reviewers: [{draw(st.sampled_from(['desk', 'web']))}]")
    return ", ".join(parts)


def base(rules):
    lines = [f"  - {{id: r{n}, {rule}}}" for n, rule in enumerate(rules)]
    return HEAD + ("rules:\n" + "\n".join(lines) + "\n" if lines else "")


def tool_call(name, arguments):
    return Call("mcp", "tools/call", name, arguments, {"name": name, "arguments": arguments}, 1)


NUMBERS = st.integers(0, 5) | st.booleans() | st.sampled_from(["x", "é\n", '"', 1.5, 2.0, None])
ARGUMENTS = st.dictionaries(
    st.sampled_from(["n", "x y"]), NUMBERS | st.lists(st.integers(0, 2), max_size=2), max_size=2
)
URIS = [f"file:///docs/{name}" for name in "abcd"]
CALLS = {
    "tools": st.builds(
        tool_call, st.sampled_from(["get_order", "get_user", "get_price", "get_stock", "drop"]), ARGUMENTS
    ),
    "rest": st.sampled_from(
        [Call("mcp", f"resources/{word}", uri, params={"uri": uri}) for word in ("read", "unsubscribe") for uri in URIS]
        + [Call("mcp", "prompts/get", "plan", {"n": 1}, {"name": "plan", "arguments": {"n": 1}})]
        + [Call("mcp", "tasks/get", "1", params={"taskId": "1"}), Call("mcp", "initialize", params={"a": 1})] * 2
        + [Call("mcp", "tools/list"), Call("mcp", "GET")] * 2
    ),
    "http": st.builds(
        lambda method, path: Call("http", method, path),
        st.sampled_from(["GET", "POST"]),
        st.sampled_from(["/v1/orders/1", "/v1/orders/2", "/v1/orders/3", "/v1/orders/4", "/v1/x", "/"]),
    ),
}


@st.composite
def traffic(draw):
    """Rules of one theme, and calls by two callers that they are about."""
    theme = draw(THEMES)
    rules = draw(st.lists(rule_lines(theme), min_size=1, max_size=5))
    server = "api" if theme == "http" else "shop"
    asked = st.tuples(st.sampled_from(["shop-ci", "shop-ci", "etl"]), CALLS[theme].map(lambda call: (server, call)))
    return base(rules), draw(st.lists(asked, min_size=1, max_size=25))


def load(text, folder, name):
    file = Path(folder) / name
    file.write_text(text)
    return load_policy(file)


def record(policy, asked):
    out = []
    for n, (caller, (server, call)) in enumerate(asked):
        at = START + timedelta(seconds=n)
        decision = decide(policy, as_caller(policy, caller), policy.servers[server], [call], now=at)
        out.append(Recorded("s", n, at, caller, "github", server, (call,), effect_of(decision), decision.rules))
    return out


def quietly(text, folder):
    """The policy; None where the random rules make one that the loader refuses, for a dead rule and nothing else."""
    try:
        return load(text, folder, "base.yaml")
    except PolicyError as error:
        if all("can never" in problem.what for problem in error.problems):
            return None
        raise


@given(traffic())
@settings(max_examples=200, deadline=None)
def test_suggest_then_backtest_on_the_same_recording_changes_nothing(made_up):
    text, asked = made_up
    with tempfile.TemporaryDirectory() as folder:
        policy = quietly(text, folder)
        if policy is None:
            return
        requests = record(policy, asked)
        made = suggest(policy, requests)
        suggested = load(suggested_policy(made, policy, read_sections(policy.files[0])[0]), folder, "suggested.yaml")
        assert made.notes == ()
        assert backtest(suggested, requests).groups == ()


@given(traffic(), st.integers(0, 24))
@settings(max_examples=100, deadline=None)
def test_where_a_recording_contradicts_itself_the_strictest_holds_and_is_noted(made_up, at):
    text, asked = made_up
    with tempfile.TemporaryDirectory() as folder:
        policy = quietly(text, folder)
        if policy is None:
            return
        requests = record(policy, asked)
        twin = requests[at % len(requests)]
        other = "deny" if twin.decision == "allow" else "allow"
        made = suggest(policy, [*requests, replace(twin, n=99, decision=other)])
        suggested = load(suggested_policy(made, policy, read_sections(policy.files[0])[0]), folder, "suggested.yaml")
        assert made.notes
        stricter = max(twin.decision, other, key=STRICTNESS.__getitem__)
        if not asked_of(twin.calls[0]).is_handshake:
            assert STRICTNESS[redecide(suggested, twin).effect] >= STRICTNESS[stricter]
            denied = [one for one in requests if one.decision == "deny" and not asked_of(one.calls[0]).is_handshake]
            assert all(redecide(suggested, one).effect == "deny" for one in denied)


@given(traffic())
@settings(max_examples=100, deadline=None)
def test_exactly_what_was_done_is_named_without_globs(made_up):
    text, asked = made_up
    with tempfile.TemporaryDirectory() as folder:
        policy = quietly(text, folder)
        if policy is None:
            return
        requests = record(policy, asked)
        made = suggest(policy, requests, exact=True)
        done = {one.calls[0].name for one in requests if one.decision != "deny" and one.calls[0].method == "tools/call"}
        named = {name for rule in made.rules for name in rule.patterns if rule.aspect == "tools"}
        assert named == done
        assert not any("*" in name for name in named)
