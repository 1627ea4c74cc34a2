"""A policy that could be read two ways, or says less than it must, does not load; the same one without that does."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from coatcheck.errors import PolicyError
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from story.processes import run_cli

pytestmark = pytest.mark.corpus

type Change = Callable[[str], str | bytes]
SECRETS = {"api-key"}
LEVELS = 5_000


def instead(old: str, new: str) -> Change:
    """The policy with `new` in the first place of `old`, which must be there."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def behind(more: str) -> Change:
    return lambda text: text + more


TUNNEL = "    tunnel: true"
PAYS = "tools: [pay]"
APPROVE = "    effect: approve"
LIMIT = "  max_in_flight: 100"
BROKEN: dict[str, tuple[str, Change, str]] = {
    "a section": ("POL-01", behind("ruels: []\n"), "unknown key 'ruels'"),
    "an effect as a section": ("POL-01", behind("alow: []\n"), "unknown key 'alow'"),
    "a rule's key": ("POL-01", instead(PAYS, "tool: [pay]"), "unknown key 'tool'"),
    "a rule's key in capitals": ("POL-01", instead("    who: [any]", "    Who: [any]"), "unknown key 'Who'"),
    "a key with a space": ("POL-01", instead(APPROVE, '    "effect ": approve'), "unknown key 'effect '"),
    "a key in look-alikes": ("POL-01", instead(APPROVE, '    "\u0435ffect": approve'), "unknown key"),
    "a key of the gateway": ("POL-01", instead("  hold: 20s", "  holds: 20s"), "unknown key 'holds'"),
    "a key of a server": ("POL-01", instead("    credential: ", "    credentials: "), "unknown key 'credentials'"),
    "a key of a mask": ("POL-01", instead("    detect: ", "    detects: "), "unknown key 'detects'"),
    "no YAML": ("POL-02", behind("{\n"), "not YAML"),
    "a tab": ("POL-02", instead("  - id: job-pays", "\t- id: job-pays"), "a tab"),
    "NUL": ("POL-02", behind("\0"), "control character (U+0000)"),
    "a control character": ("POL-02", behind("# \x07\n"), "control character (U+0007)"),
    "a mark in the middle": ("POL-02", behind("\ufeff# x\n"), "control character (U+FEFF)"),
    "UTF-16": ("POL-02", lambda text: text.encode("utf-16"), "not UTF-8"),
    "Latin-1": ("POL-02", lambda text: text.encode() + b"# \xe9\n", "not UTF-8"),
    "nothing": ("POL-02", lambda _: "", "the file is empty"),
    "a list": ("POL-02", lambda _: "[]", "not a mapping"),
    "two documents": ("POL-04", lambda text: f"{text}---\n{text}", "a second document"),
    "an empty second document": ("POL-04", behind("---\n"), "a second document"),
    "a document behind the end": ("POL-04", behind("...\nrules: []\n"), "a second document"),
    "a directive": ("POL-04", lambda text: f"%YAML 1.1\n---\n{text}", "a YAML directive"),
    "a section twice": ("POL-05", behind("rules: []\n"), "duplicate key 'rules'"),
    "an effect twice": ("POL-05", instead(APPROVE, f"{APPROVE}\n    effect: allow"), "duplicate key 'effect'"),
    "an effect twice, quoted": ("POL-05", instead(APPROVE, f"{APPROVE}\n    'effect': allow"), "duplicate key"),
    "an effect twice, escaped": ("POL-05", instead(APPROVE, f'{APPROVE}\n    "\\u0065ffect": allow'), "duplicate key"),
    "an effect merged in": ("POL-05", instead(APPROVE, f"{APPROVE}\n    <<: {{effect: allow}}"), "a merge key"),
    "an identity twice": ("POL-05", instead("  neighbour:", "  job:"), "duplicate key 'job'"),
    "a rule's id twice": ("POL-05", instead("job-pays", "job-reads"), "duplicate rule id"),
    "a billion laughs": ("POL-07", behind("x: &a [1,1]\ny: &b [*a,*a]\nz: [*b,*b]\n"), "an anchor"),
    "a list in itself": ("POL-07", behind("x: &a [*a]\n"), "an anchor"),
    "an anchor nobody uses": ("POL-07", instead(PAYS, "tools: &t [pay]"), "an anchor"),
    "a tag that runs code": ("POL-08", behind("x: !!python/object/apply:os.system [id]\n"), "a tag"),
    "a tag of nobody": ("POL-08", instead(PAYS, "tools: !foo [pay]"), "a tag"),
    "a binary": ("POL-08", instead(PAYS, "tools: [!!binary cGF5]"), "a tag"),
    "a set": ("POL-08", instead(PAYS, "tools: !!set {pay}"), "a tag"),
    "a time": ("POL-08", instead("    owner: ", "    expires: !!timestamp 2030-01-01\n    owner: "), "a tag"),
    "a tag that says nothing": ("POL-08", instead(PAYS, "tools: [!!str pay]"), "a tag"),
    **{
        f"{word} for true": ("POL-10", instead(TUNNEL, f"    tunnel: {word}"), "tunnel is true or false")
        for word in ("no", "yes", "on", "off", "'yes'", '"true"', "1", "0", "y", "~", "tRue", "[true]")
    },
    **{
        f"{number} for a number": ("POL-11", instead(LIMIT, f"  max_in_flight: {number}"), "max_in_flight is")
        for number in (
            "010", "1_000", "0o10", "0x10", "0b1", ".nan", ".inf", "-.inf", "1e3", "10.0", "+10", "-1", "0", "'10'",
            "1:30", "9" * 30, "true", "[10]", "1,000", "10 000", "\u0663",
        )
    },
    "deep lists": ("POL-13", behind("x: " + "[" * LEVELS + "]" * LEVELS + "\n"), "nested deeper"),
    "deep mappings": ("POL-13", behind("x: " + "{a: " * LEVELS + "1" + "}" * LEVELS + "\n"), "nested deeper"),
    "deep lists that never end": ("POL-13", behind("x: " + "[" * LEVELS), "nested deeper"),
    "more than a megabyte": ("POL-13", behind("# " + "x" * (1 << 20) + "\n"), "larger than 1 MB"),
    "a host with a star": ("POL-14", instead("https://localhost", "https://*.localhost"), "a host with a wildcard"),
    "a star for a host": ("POL-14", instead("https://localhost", "https://*"), "wildcard"),
    "a dot before a host": ("POL-14", instead("https://localhost", "https://.localhost"), "url:"),
    "no who": ("POL-17", instead("    who: [any]\n", ""), "missing key 'who'"),
    "who is nobody": ("POL-17", instead("who: [any]", "who: []"), "who is an empty list"),
    "who is nothing": ("POL-17", instead("who: [any]", "who: ~"), "who is a list"),
    "who is a star": ("POL-17", instead("who: [any]", "who: ['*']"), "unknown identity '*'"),
    "who is a word": ("POL-17", instead("who: [any]", "who: any"), "who is a list"),
    "no server": ("POL-17", instead(f"    server: api\n    {PAYS}", f"    {PAYS}"), "missing key 'server'"),
    "no tools": ("POL-17", instead(f"    {PAYS}\n", ""), "a rule names what it is about"),
    "tools is nothing": ("POL-17", instead(PAYS, "tools: []"), "tools is an empty list"),
    "a tool is nothing": ("POL-17", instead(PAYS, "tools: ['']"), "a pattern is empty"),
    "no effect": ("POL-17", instead("    effect: deny\n", ""), "missing key 'effect'"),
    "an effect in capitals": ("POL-17", instead("effect: deny", "effect: Deny"), "effect cannot be 'Deny'"),
    "an unknown reviewer": ("POL-19", instead("reviewers: [desk]", "reviewers: [nobody]"), "unknown reviewer"),
    "no reviewers": ("POL-19", instead("    reviewers: [desk]\n", ""), "missing key 'reviewers'"),
    "an unknown issuer": ("POL-19", instead("    issuer: ci", "    issuer: cy"), "unknown issuer 'cy'"),
    "an unknown server": ("POL-19", instead("server: stranger", "server: strangers"), "unknown server 'strangers'"),
    "a mask's unknown server": ("POL-19", instead("data\n    server: api", "data\n    server: a"), "unknown server"),
    "an unknown identity": ("POL-19", instead("who: [neighbour]", "who: [neighbor]"), "unknown identity 'neighbor'"),
    "an unknown group": ("POL-19", instead("who: [group:ci]", "who: [group:cl]"), "unknown group 'cl'"),
    "an unknown secret": ("POL-19", instead("credential: api-key", "credential: api-kay"), "unknown secret 'api-kay'"),
    "an unknown detector": ("POL-19", instead("detect: [email]", "detect: [e-mail]"), "detect cannot be 'e-mail'"),
    "an unset variable": ("POL-25", instead("audience: ", "audience: ${NO_SUCH_VARIABLE}"), "NO_SUCH_VARIABLE"),
    "an escaped wildcard": ("POL-17", instead(PAYS, r"tools: ['pay\*']"), "holds a sign"),
    "a pattern that denies itself": ("POL-17", instead(PAYS, "tools: ['!pay']"), "holds a sign"),
    "two patterns in one": ("POL-17", instead(PAYS, "tools: ['pay, get_*']"), "holds a sign"),
    "a variable in a rule": ("POL-25", instead(PAYS, "tools: ['${HOME}']"), "'${HOME}' holds a sign"),
    "a variable as a key": ("POL-25", behind("${HOME}: 1\n"), ""),
}  # fmt: skip


@pytest.fixture
def load(place, tmp_path) -> Callable[..., Policy]:
    """Loads the policy of this ground after a change."""

    def load(change: Change, **environment: str) -> Policy:
        changed = change(place.policy_text())
        file = tmp_path / "policy.yaml"
        file.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        return load_policy(file, secrets=SECRETS, environment=environment)

    return load


@pytest.mark.attack(
    "POL-01", "POL-02", "POL-04", "POL-05", "POL-07", "POL-08", "POL-10", "POL-11", "POL-13", "POL-14", "POL-17",
    "POL-19", "POL-25",
)  # fmt: skip
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_policy_is_refused_with_its_place(load, tmp_path, name) -> None:
    _, change, said = BROKEN[name]
    assert load(lambda text: text).rules, "the policy must load without the change"
    with pytest.raises(PolicyError) as caught:
        load(change)
    told = [(problem.where, problem.what) for problem in caught.value.problems]
    assert any(said in what for _, what in told), told
    assert all(where.startswith(str(tmp_path / "policy.yaml")) for where, _ in told), told


def test_every_kind_of_broken_policy_is_tried() -> None:
    marks = [mark for mark in test_a_broken_policy_is_refused_with_its_place.pytestmark if mark.name == "attack"]
    assert {case_id for case_id, _, _ in BROKEN.values()} == set(marks[0].args)


HARMLESS: dict[str, Change] = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "lines that end in CRLF": lambda text: text.replace("\n", "\r\n"),
    "one document, marked": lambda text: f"---\n{text}",
    "the spellings of YAML 1.2": instead(TUNNEL, "    tunnel: True"),
    "a number in range": instead(LIMIT, "  max_in_flight: 99"),
}


@pytest.mark.attack("POL-02", "POL-04", "POL-10", "POL-11")
@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_can_be_read_in_one_way_only_loads(load, change) -> None:
    plain, changed = load(lambda text: text), load(change)
    assert [replace(rule, where="") for rule in changed.rules] == [replace(rule, where="") for rule in plain.rules]
    assert changed.servers == plain.servers


@pytest.mark.attack("POL-25")
@pytest.mark.parametrize("value", ["x.example\nrules: []", 'x"example', "{a: b}", "x.example # y", "*.x.example"])
def test_a_variable_that_holds_yaml_is_text_or_refused(load, value) -> None:
    change = instead("audience: https://gateway.shop.example", "audience: https://${NAME}")
    assert load(change, NAME="gate.example").audience == "https://gate.example"
    with pytest.raises(PolicyError) as caught:
        load(change, NAME=value)
    assert any("policy.yaml:3:" in problem.where for problem in caught.value.problems)


@pytest.mark.attack("POL-16")
@pytest.mark.parametrize("is_deny_first", [True, False])
def test_a_deny_wins_in_either_order_and_explain_says_so(place, tmp_path, is_deny_first) -> None:
    head, _, rules = place.policy_text().partition("rules:\n")
    deny = "  - {id: no-orders, who: [any], server: api, tools: [get_order], effect: deny}\n"
    body, _, masks = rules.partition("masks:\n")
    file = tmp_path / "policy.yaml"
    file.write_text(f"{head}rules:\n{deny + body if is_deny_first else body + deny}masks:\n{masks}")
    where = ("--policy", str(file), "--caller", "job", "--server", "api")
    denied = run_cli("policy", "explain", *where, "--tool", "get_order", "--json")
    allowed = run_cli("policy", "explain", *where, "--tool", "get_price", "--json")
    assert '"no-orders"' in denied.stdout, denied.stdout + denied.stderr
    assert '"deny"' in denied.stdout
    assert '"allow"' in allowed.stdout, allowed.stdout + allowed.stderr
