import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from coatcheck.errors import CoatcheckError
from coatcheck.identity.caller import Caller
from coatcheck.identity.session_store import IssuedToken, SessionStore
from coatcheck.identity.session_tokens import SessionTokens
from coatcheck.policy.load import load_policy
from coatcheck.state import StateDirectory
from coatcheck.vault.crypto import Sealer
from coatcheck.vault.keys import find_master_key, find_or_make_master_key
from coatcheck.vault.store import Vault
from coatcheck_cli.identities import identities

POLICY = """
coatcheck: 1
gateway: {{audience: "https://gateway.acme.dev"}}
issuers:
  corp:
    issuer: {url}
    algorithms: [ES256]
    jwks_file: jwks.json
    groups: roles
identities:
  shop-ci:
    issuer: corp
    claims: {{repository_id: "74627617", ref: [refs/heads/main, "refs/tags/*"]}}
    groups: [ci]
    owner: platform@acme.dev
    expires: 2999-06-30
  off:
    issuer: corp
    claims: {{repository_id: "9"}}
    disabled: true
  past:
    issuer: corp
    claims: {{repository_id: "8"}}
    expires: 2020-01-01
reviewers:
  sre: {{issuer: corp, claims: {{email: sre@acme.dev}}}}
servers:
  shop: {{url: "https://shop.acme.dev/mcp"}}
rules:
  - {{id: everything, who: [any], server: shop, tools: ["*"], effect: allow}}
  - {{id: runs, who: [any], server: shop, tools: [run], when: caller.claims.run_id == args.run, effect: deny}}
"""
URL = "https://idp.acme.dev"
AUDIENCE = "https://gateway.acme.dev"


@pytest.fixture
def policy(tmp_path, signer):
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [signer.jwk()]}))
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(url=URL))
    return path


@pytest.fixture
def mint(signer, audience):
    """A token good at this moment, with these claims changed."""

    def sign(**changes):
        seconds = int(datetime.now(UTC).timestamp())
        claims = {"iss": URL, "aud": audience, "sub": "s", "iat": seconds, "exp": seconds + 300}
        return signer.sign(claims | {"repository_id": "74627617", "ref": "refs/heads/main"} | changes)

    return sign


def run(*arguments, token=None):
    return CliRunner().invoke(identities, [str(each) for each in arguments], input=token)


def test_list_shows_every_identity_and_whether_it_is_in_use(policy):
    rows = json.loads(run("list", "--policy", policy, "--json").output)
    assert [(row["name"], row["state"]) for row in rows] == [
        ("off", "disabled"),
        ("past", "expired"),
        ("shop-ci", "active"),
    ]
    assert rows[2]["groups"] == ["ci"]
    assert "platform@acme.dev" in run("list", "--policy", policy).output


def test_show_tells_whose_token_an_identity_is(policy):
    shown = json.loads(run("show", "shop-ci", "--policy", policy, "--json").output)
    assert shown["claims"] == {"repository_id": "74627617", "ref": ["refs/heads/main", "refs/tags/*"]}
    assert shown["issuer_url"] == URL
    output = run("show", "shop-ci", "--policy", policy).output
    assert "claim ref: 'refs/heads/main' or 'refs/tags/*'\n" in output
    assert "expires: 2999-06-30\n" in output


def test_show_of_a_name_that_is_not_declared_is_an_error_with_a_hint(policy):
    result = run("show", "nobody", "--policy", policy)
    assert isinstance(result.exception, CoatcheckError)
    assert result.exception.lines() == [
        "error: no identity 'nobody' in the policy",
        "hint: list them with: coatcheck identities list",
    ]


def test_explain_names_the_identity_and_why_it_is_none_of_the_others(policy, mint):
    token = mint(roles=["dev"], email="sre@acme.dev", run_id="a-run-id")
    result = run("explain", "--token", "-", "--policy", policy, token=token + "\n")
    assert result.exit_code == 0
    assert "identity: shop-ci, groups ci, dev\n" in result.output
    assert "reviewer: sre\n" in result.output
    assert "claims in the journal: ref, repository_id, roles, run_id\n" in result.output
    assert "a-run-id" not in result.output
    assert "claim repository_id has another value" in result.output
    explained = json.loads(run("explain", "--policy", policy, "--json", token=token).output)
    assert (explained["identity"], explained["groups"], explained["reviewers"]) == ("shop-ci", ["ci", "dev"], ["sre"])
    assert explained["journaled"] == ["ref", "repository_id", "roles", "run_id"]
    assert [each["matches"] for each in explained["identities"]] == [False, False, True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"ref": "refs/heads/dev"}, "unknown-identity", id="another branch"),
        pytest.param({"repository_id": "9"}, "identity-disabled", id="disabled"),
        pytest.param({"repository_id": "8"}, "identity-expired", id="expired"),
        pytest.param({"aud": "https://other.example"}, "wrong-audience", id="another audience"),
        pytest.param({"iss": "https://other.example"}, "wrong-issuer", id="another issuer"),
        pytest.param({"exp": 5}, "token-expired", id="long ago"),
    ],
)
def test_explain_of_a_token_the_gateway_would_refuse_says_why_and_fails(policy, mint, change, reason):
    token = mint(**change)
    result = run("explain", "--policy", policy, token=token)
    assert result.exit_code == 1
    assert isinstance(result.exception, CoatcheckError)
    assert str(result.exception).startswith(f"{reason}: ")
    as_json = run("explain", "--policy", policy, "--json", token=token)
    assert as_json.exit_code == 1
    assert json.loads(as_json.output)["refused"]["reason"] == reason
    assert not any(part in result.output + as_json.output + str(result.exception) for part in token.split("."))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        pytest.param({"ref": "refs/heads/dev"}, "the list above", id="another branch"),
        pytest.param({"aud": "https://other.example"}, "gateway.audience", id="another audience"),
        pytest.param({"exp": 9_999_999_999}, "max_lifetime:", id="for too long"),
        pytest.param({"nbf": 9_999_999_999}, "leeway:", id="not yet"),
    ],
)
def test_explain_says_what_to_do_about_a_refusal(policy, mint, change, hint):
    assert any(hint in line for line in run("explain", "--policy", policy, token=mint(**change)).exception.lines())


def test_explain_takes_no_token_from_the_command_line_and_does_not_repeat_it(policy, mint):
    token = mint()
    result = run("explain", "--token", token, "--policy", policy)
    assert result.exit_code == 2
    assert "standard input" in result.output
    assert token not in result.output


def test_explain_of_no_token_at_all_is_refused(policy):
    assert str(run("explain", "--policy", policy, token="").exception).startswith("token-malformed: ")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\0", "tokén".encode(), b"x" * 300_000])
def test_explain_of_bytes_that_are_no_token_is_refused(policy, data):
    assert run("explain", "--policy", policy, token=data).exception.lines()[0].startswith("error: token-")


def test_explain_says_that_a_token_counts_once_and_does_not_use_it_up(policy, mint):
    policy.write_text(policy.read_text().replace("    groups: roles\n", "    groups: roles\n    one_time: true\n"))
    token = mint()
    for _ in range(2):
        result = run("explain", "--policy", policy, token=token)
        assert (result.exit_code, "it counts once" in result.output) == (0, True)
    assert json.loads(run("explain", "--policy", policy, "--json", token=token).output)["token"]["counts_once"]


def made(state: StateDirectory) -> StateDirectory:
    state.create()
    Vault.create(state.open_database(), find_or_make_master_key(state, {})[0])
    return state


def tokens_of(state: StateDirectory) -> SessionTokens:
    engine, (key, _) = state.open_database(), find_master_key(state, {})
    return SessionTokens(SessionStore(engine), Sealer(key.derive("session-tokens")), Vault.open(engine, key).id)


@pytest.fixture
def state(tmp_path, monkeypatch):
    for name in ("COATCHECK_KEY_CMD", "COATCHECK_KEY_FILE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    return made(StateDirectory(tmp_path / "state"))


@pytest.fixture
def given_to(policy, state):
    """A session token for a caller with these claims, changed."""

    def issue(state=state, **changes) -> tuple[str, IssuedToken]:
        now = datetime.now(UTC)
        claims = {"repository_id": "74627617", "ref": "refs/heads/main"} | changes
        caller = Caller("shop-ci", "corp", "s", "d" * 32, now, frozenset(), claims)
        return tokens_of(state).issue(caller, load_policy(policy), now=now)

    return issue


def test_a_session_token_is_explained_with_what_it_was_exchanged_for(policy, state, given_to):
    token, issued = given_to(roles=["dev"])
    result = run("explain", "--policy", policy, "--state", state.root, token=token)
    assert result.exit_code == 0, result.exception
    assert f"session token: {issued.jti}, given to shop-ci\n" in result.output
    assert "identity: shop-ci, groups ci, dev\n" in result.output
    assert token.rpartition(".")[2] not in result.output


@pytest.mark.parametrize(("ref", "reason"), [("refs/heads/main", "token-revoked"), ("else", "unknown-identity")])
def test_that_the_gateway_would_refuse_says_why_and_fails(policy, state, given_to, ref, reason):
    token, issued = given_to(ref=ref)
    if reason == "token-revoked":
        SessionStore(state.open_database()).revoke(jti=issued.jti, now=datetime.now(UTC))
    result = run("explain", "--policy", policy, "--state", state.root, token=token)
    assert (result.exit_code, str(result.exception).partition(":")[0]) == (1, reason)


def test_a_session_token_of_another_gateway_is_refused_with_a_hint_at_its_state(policy, state, given_to, tmp_path):
    token, _ = given_to(made(StateDirectory(tmp_path / "other")))
    lines = run("explain", "--policy", policy, "--state", state.root, token=token).exception.lines()
    assert lines[0].startswith("error: wrong-issuer: ")
    assert "--state" in lines[1]


def test_a_session_token_without_a_state_is_an_error_that_says_so(policy, given_to, tmp_path):
    result = run("explain", "--policy", policy, "--state", tmp_path / "none", token=given_to()[0])
    assert isinstance(result.exception, CoatcheckError)
    assert str(tmp_path / "none") in str(result.exception)
