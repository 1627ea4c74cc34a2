import pytest

from coatcheck.errors import PolicyError
from coatcheck.policy.environment import PLACES

SECRET = "https://tok3n:x@evil.example:99999/?q"


def edited(draft, old, new):
    return draft.edited(old, new)


@pytest.mark.parametrize(
    ("old", "new", "variables", "read"),
    [
        pytest.param(
            "audience: https://gateway.example.com",
            "audience: https://${HOST}",
            {"HOST": "gateway.test"},
            lambda policy: policy.audience == "https://gateway.test",
            id="audience",
        ),
        pytest.param(
            "issuer: https://idp.example.com/realms/bots",
            "issuer: ${IDP}/realms/${REALM_2}",
            {"IDP": "https://idp.test", "REALM_2": "bots"},
            lambda policy: policy.issuers["corp"].issuer == "https://idp.test/realms/bots",
            id="issuer",
        ),
        pytest.param(
            "leeway: 10s",
            "jwks_uri: ${KEYS}",
            {"KEYS": "https://idp.test/keys"},
            lambda policy: policy.issuers["corp"].jwks_uri == "https://idp.test/keys",
            id="jwks_uri",
        ),
        pytest.param(
            "url: https://api.githubcopilot.com/mcp/",
            "url: ${GITHUB}",
            {"GITHUB": "https://github.test:8443/mcp/"},
            lambda policy: policy.servers["github"].port == 8443,
            id="url",
        ),
    ],
)
def test_variables_are_filled_in_where_deployments_differ(draft, old, new, variables, read):
    text = edited(draft, old, new)
    policy = draft.load(text, environment=variables)
    assert read(policy)
    other = draft.load(text, environment=variables | {"UNUSED": "x"})
    assert other.sha256 == policy.sha256


def test_what_is_filled_in_counts_in_the_policys_hash(draft):
    text = edited(draft, "url: https://api.githubcopilot.com/mcp/", "url: ${GITHUB}")
    one, two = (draft.load(text, environment={"GITHUB": f"https://{name}.test/"}) for name in ("a", "b"))
    assert one.sha256 != two.sha256
    assert draft.load(environment={"GITHUB": "https://a.test/"}).sha256 == draft.load(environment={}).sha256


@pytest.mark.parametrize(
    ("written", "variables", "what"),
    [
        ("${X}", {}, "the environment has no X"),
        ("${X}", {"X": " "}, "X is empty in the environment, or holds a variable itself"),
        ("${X}", {"X": "${Y}", "Y": "https://y.test"}, "X is empty in the environment, or holds a variable itself"),
        ("${x}", {"x": "https://x.test"}, "not a variable: '${x}'"),
        ("${}", {"": "https://x.test"}, "not a variable: '${}'"),
        ("${X:-https://x.test}", {}, "not a variable: '${X:-https://x.test}'"),
        ("${X", {"X": "https://x.test"}, "a '${' without its '}'"),
        ("$X", {"X": "https://x.test"}, "url: not a URL of http or https: '$X'"),
    ],
)
def test_a_variable_that_cannot_be_filled_in_is_told_once_at_its_place(draft, written, variables, what):
    text = edited(draft, "url: https://api.githubcopilot.com/mcp/", f"url: '{written}'")
    assert [found[:2] for found in draft.faults(text, environment=variables)] == [("p.yaml:25:10", what)]


def test_every_problem_is_told_with_those_of_the_environment(draft):
    text = edited(draft, "url: https://api.githubcopilot.com/mcp/", "url: ${X}/${Y}")
    text = draft.edited("effect: allow", "efect: allow", text)
    assert [what for _, what, _ in draft.faults(text, environment={})] == [
        "the environment has no X",
        "the environment has no Y",
        "missing key 'effect' in a rule",
        "unknown key 'efect'",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("owner: platform@example.com", "owner: ${X}"),
        ("ref: refs/heads/main", "ref: '${X}'"),
        ("credential: github-pat", "credential: ${X}"),
        ("who: [group:ci]", "who: ['${X}']"),
        ("server: github", "server: '${X}'"),
        ("ca: ca.pem", "ca: ${X}"),
        ('tools: ["get_*"', 'tools: ["${X}"'),
        ("local: [root", "local: ['${X}'"),
        ("preset: github-actions", "preset: '${X}'"),
        ("groups: realm_access.roles", "groups: ${X}"),
        ("addresses: [10.20.0.0/16", "addresses: ['${X}'"),
        ("hold: 30s", "hold: ${X}"),
        ("id: ci-reads", "id: ${X}"),
    ],
)
def test_nowhere_else_is_anything_filled_in(draft, old, new):
    assert draft.faults(edited(draft, old, new), environment={"X": "github"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("audience: https://gateway.example.com", "audience: ${X}"),
        ("issuer: https://idp.example.com/realms/bots", "issuer: ${X}"),
        ("leeway: 10s", "jwks_uri: ${X}"),
        ("url: https://api.githubcopilot.com/mcp/", "url: ${X}"),
    ],
)
@pytest.mark.parametrize(
    "value", [SECRET, "tok3n", "urn:tok3n tok3n", "http://tok3n.example", "https://h:tok3n/", "https://h/tok3n/../x"]
)
def test_no_message_holds_what_the_environment_gave(draft, old, new, value):
    with pytest.raises(PolicyError) as caught:
        draft.load(edited(draft, old, new) + "x: 1\n", environment={"X": value})
    assert "tok3n" not in "\n".join(caught.value.lines())


def test_the_named_places_are_these():
    assert PLACES == {"gateway": ("audience",), "issuers": ("issuer", "jwks_uri"), "servers": ("url",)}


@pytest.mark.parametrize(
    "value", ["https://a.test/\nrules: []", "{url: https://a.test/}", "https://a.test/ # x", "[x]"]
)
def test_a_value_is_text_and_never_read_as_yaml(draft, value):
    text = draft.edited("url: https://api.githubcopilot.com/mcp/", "url: ${X}")
    (what,) = [what for _, what, _ in draft.faults(text, environment={"X": value})]
    assert what.startswith("url: not a URL")
    assert draft.load(text, environment={"X": "https://a.test/"}).servers["github"].host == "a.test"
