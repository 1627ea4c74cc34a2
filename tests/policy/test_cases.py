from datetime import UTC, datetime

import pytest

from coatcheck.errors import PolicyError
from coatcheck.mcp.call import Call
from coatcheck.policy.cases import Token, call_of, find_case_files, read_case_file
from coatcheck.policy.load import load_policy

WHOLE = """\
coatcheck: 1
policy: p.yaml
at: 2026-11-24T12:00:00Z
cases:
  - name: reads
    caller: shop-ci
    claims: {repository: acme/shop}
    server: github
    tool: get_issue
    args: {n: 1, half: 0.5, on: true, none: ~, word: no, list: [1, {a: b}]}
    expect: allow
    rule: ci-reads
  - name: stranger
    caller: {issuer: github, subject: repo, claims: {ref: x}}
    server: github
    http: GET /a/b?c
    at: 2027-01-01T01:00:00+01:00
    expect: deny
    rule: [a, b]
    reason: unknown-identity
"""


@pytest.fixture
def faults(tmp_path):
    def found(text):
        (tmp_path / "p.yaml").write_text("a policy")
        file = tmp_path / "x.test.yaml"
        file.write_text(text)
        with pytest.raises(PolicyError) as caught:
            read_case_file(file)
        return [(one.where.removeprefix(f"{tmp_path}/"), one.what) for one in caught.value.problems]

    return found


def test_a_test_file_is_read_into_values(tmp_path):
    (tmp_path / "p.yaml").write_text("a policy")
    file = tmp_path / "x.test.yaml"
    file.write_text(WHOLE)
    read = read_case_file(file)
    assert read.policy == (tmp_path / "p.yaml").resolve()
    first, second = read.cases
    arguments = {"n": 1, "half": 0.5, "on": True, "none": None, "word": "no", "list": [1, {"a": "b"}]}
    assert first.call == Call(
        "mcp", "tools/call", "get_issue", arguments, {"name": "get_issue", "arguments": arguments}
    )
    assert (first.caller, first.claims, first.rules) == ("shop-ci", {"repository": "acme/shop"}, ("ci-reads",))
    assert first.at == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert second.at == datetime(2027, 1, 1, tzinfo=UTC)
    assert second.caller == Token("github", {"ref": "x"}, "repo")
    assert (second.call.kind, second.call.method, second.call.name) == ("http", "GET", "/a/b")
    assert (second.rules, second.reason) == (("a", "b"), "unknown-identity")
    assert second.where.endswith("x.test.yaml:13:5")


def test_without_a_policy_it_is_about_its_folder(tmp_path):
    file = tmp_path / "x.test.yaml"
    file.write_text(WHOLE.replace("policy: p.yaml\n", ""))
    assert read_case_file(file).policy == tmp_path.resolve()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tool: get_issue", "tols: get_issue", ("x.test.yaml:9:5", "unknown key 'tols'")),
        ("    tool: get_issue\n", "", ("x.test.yaml:5:5", "a case names 0 calls, not exactly one")),
        ("tool: get_issue", "tool: a\n    prompt: b", ("x.test.yaml:5:5", "a case names 2 calls, not exactly one")),
        ("tool: get_issue", "resource: a:b", ("x.test.yaml:10:5", "'args' of a resource")),
        ("expect: allow", "expect: hold", ("x.test.yaml:11:13", "expect cannot be 'hold'")),
        ("    expect: allow\n", "", ("x.test.yaml:5:5", "missing key 'expect' in a case")),
        (
            "expect: allow",
            "expect: allow\n    reason: rule",
            ("x.test.yaml:12:5", "'reason' on a case that expects allow"),
        ),
        ("name: stranger", "name: reads", ("x.test.yaml:13:5", "a second case 'reads'")),
        ("http: GET /a/b?c", "http: /a/b", ("x.test.yaml:16:11", "not a request: '/a/b'")),
        ("n: 1,", "n: 0x10,", ("x.test.yaml:10:15", "not a number as JSON writes it: 0x10")),
        ("n: 1,", "n: .inf,", ("x.test.yaml:10:15", "not a number as JSON writes it: .inf")),
        (
            "at: 2026-11-24T12:00:00Z",
            "at: 2026-11-24",
            ("x.test.yaml:3:5", "at is a moment such as 2026-11-24T12:00:00Z"),
        ),
        ("policy: p.yaml", "policy: q.yaml", ("x.test.yaml:2:9", "policy: no such file or folder: q.yaml")),
        ("claims: {repository: acme/shop}", "claims: acme", ("x.test.yaml:7:13", "claims is a mapping, not text")),
        (
            "    server: github\n    http",
            "    claims: {a: b}\n    server: x\n    http",
            ("x.test.yaml:15:5", "'claims' beside a token"),
        ),
        ("rule: [a, b]", "rule: []", ("x.test.yaml:19:11", "rule is an empty list")),
        (WHOLE[WHOLE.index("cases:") :], "cases: []\n", ("x.test.yaml:4:8", "cases is an empty list")),
        (WHOLE[WHOLE.index("cases:") :], "", ("x.test.yaml:1:1", "missing key 'cases' in a test file")),
        ("coatcheck: 1", "coatcheck: 2", ("x.test.yaml:1:12", "coatcheck is out of range: 2")),
    ],
)
def test_a_case_is_read_as_strictly_as_a_policy(faults, old, new, expected):
    assert old in WHOLE
    assert expected in faults(WHOLE.replace(old, new, 1))


def test_all_problems_are_told_at_once(faults):
    text = (
        WHOLE.replace("tool: get", "tols: get")
        .replace("rule: [a, b]", "rule: []")
        .replace("expect: allow", "expect: x")
    )
    assert len(faults(text)) == 3


def test_tests_are_found_beside_the_policy_they_are_about(draft):
    draft.load()
    (draft.folder / "q.yaml").write_text(draft.text)
    (draft.folder / "x.test.yaml").write_text(WHOLE)
    (draft.folder / "y.test.yml").write_text(WHOLE.replace("p.yaml", "q.yaml"))
    (draft.folder / ".z.test.yaml").write_text("not read")
    names = [[file.path.name for file in find_case_files(draft.folder / name)] for name in ("", "p.yaml", "q.yaml")]
    assert names == [["x.test.yaml", "y.test.yml"], ["x.test.yaml"], ["y.test.yml"]]
    assert [file.path.name for file in find_case_files(draft.folder / "x.test.yaml")] == ["x.test.yaml"]
    (draft.folder / "r.yaml").write_text(draft.text)
    with pytest.raises(PolicyError, match="no tests here"):
        find_case_files(draft.folder / "r.yaml")


def test_test_files_are_no_part_of_a_policy(draft):
    before = draft.load().sha256
    (draft.folder / "x.test.yaml").write_text(WHOLE)
    policy = load_policy(draft.folder)
    assert [file.name for file in policy.files] == ["p.yaml"]
    assert policy.sha256 == before


@pytest.mark.parametrize("text", ["/a", "get /a", "GET a", "GET", "", "G3T /a"])
def test_a_plain_request_is_a_method_in_capitals_and_a_path(text):
    assert call_of("http", text, {}) is None
    assert call_of("http", "GET /a", {}) is not None
