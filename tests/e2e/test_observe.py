"""A gateway that observes: it enforces nothing but who callers are, says so, and lends no secret to what it would not
have allowed.
"""

import json
from urllib.request import ProxyHandler, build_opener

import pytest
from far_end import FarEnd, gateway_with
from raw import RawClient, head

from coatcheck.journal.read import records
from story.processes import run_cli

pytestmark = pytest.mark.e2e

RULES = """
  - {id: fine, who: [group:ci], server: far, http: ["GET /fine"], effect: allow}
  - {id: never, who: [group:ci], server: far, http: ["GET /never"], effect: deny}
  - {id: ask, who: [group:ci], server: far, http: ["GET /ask"], effect: approve, reviewers: [desk], expires: 1m}
  - {id: seldom, who: [group:ci], server: far, http: ["GET /seldom"], effect: allow, limit: 1/d}
"""


@pytest.fixture
def far(fresh):
    with FarEnd(fresh.authority.server_cert("localhost", "127.0.0.1")) as far:
        yield far


def observing(cast, far, *, setting: str = "coatcheck_observe=true"):
    policy = f"""
coatcheck: 1
servers:
  far: {{url: "https://{far.authority}/", ca: "{cast.authority.ca_pem}", addresses: [127.0.0.0/8, "::1/128"],
    credential: far-key}}
rules:{RULES}"""
    gateway = gateway_with(cast, policy, more=("--set", setting) if setting else ())
    (folder,) = cast.folder.glob("policies-*")
    where = ("--server", "far", "--state", str(cast.state), "--policy", str(folder))
    cast.cli("vault", "set", "far-key", *where, stdin="the-real-secret-of-far-1234\n")
    return gateway


def get(gateway, cast, far, path: str, token: str | None = None) -> int:
    with RawClient(gateway, authority=far.authority) as client:
        client.tunnel(token or cast.token())
        client.send(head(f"GET {path} HTTP/1.1", f"Host: {far.authority}", "Authorization: Bearer the-callers-own"))
        return client.read().status


def journal(cast, kind: str | None = None) -> list[dict]:
    return list(records(cast.state / "journal", kind=kind))


def had_secret(far, path: str) -> list[bool]:
    """Of every request for it, whether the secret came with it."""
    found = [heard for heard in far.heard if heard.first == f"GET {path} HTTP/1.1"]
    assert all(heard.headers.get("authorization") in (None, "Bearer the-real-secret-of-far-1234") for heard in found)
    return ["authorization" in heard.headers for heard in found]


def test_what_it_would_refuse_or_hold_goes_at_once_without_the_secret_and_is_journaled(fresh, far) -> None:
    with observing(fresh, far) as gateway:
        paths = ("/fine", "/never", "/ask", "/nobody-speaks-of-it", "/seldom", "/seldom")
        assert [get(gateway, fresh, far, path) for path in paths] == [200] * 6
    assert had_secret(far, "/fine") == [True]
    assert had_secret(far, "/seldom") == [True, False]
    assert had_secret(far, "/never") == had_secret(far, "/ask") == had_secret(far, "/nobody-speaks-of-it") == [False]
    requests = [record for record in journal(fresh, "request") if record["server"] == "far"]
    assert {record["decision"]["effect"] for record in requests} == {"allow"}
    told = [(record["observed"]["effect"], record["observed"].get("reason"), record["secrets"]) for record in requests]
    assert told == [
        ("allow", None, ["far-key"]),
        ("deny", "rule", []),
        ("approve", None, []),
        ("deny", "no-rule", []),
        ("allow", None, ["far-key"]),
        ("deny", "rate-limited", []),
    ]
    assert requests[1]["observed"]["rules"] == ["never"]
    assert all(record["enforced"] is False for record in journal(fresh) if record["kind"] != "file")
    assert not journal(fresh, "approval")
    assert not journal(fresh, "refusal")


def test_without_the_option_the_same_policy_is_enforced_and_nothing_says_otherwise(fresh, far) -> None:
    with observing(fresh, far, setting="") as gateway:
        assert [get(gateway, fresh, far, path) for path in ("/fine", "/never", "/nobody-speaks-of-it")] == [
            200,
            403,
            403,
        ]
        assert ready(gateway)["enforces"] is True
    assert [heard.first for heard in far.heard] == ["GET /fine HTTP/1.1"]
    assert not any("enforced" in record or "observed" in record for record in journal(fresh))


def test_who_callers_are_and_which_servers_there_are_is_enforced(fresh, far) -> None:
    with observing(fresh, far) as gateway:
        with RawClient(gateway, authority=far.authority) as nobody:
            assert nobody.connect(None).status == 407
        with RawClient(gateway, authority="localhost:1") as elsewhere:
            assert elsewhere.connect(fresh.token()).status == 403
        stranger = fresh.token(repository_id="1")
        assert get(gateway, fresh, far, "/fine", token=stranger) == 403
        assert get(gateway, fresh, far, "/fine", token=fresh.token(audience="https://other.example")) == 401
        assert far.heard == []
        assert get(gateway, fresh, far, "/fine") == 200


def test_it_says_so_in_its_log_its_readiness_and_its_status(fresh, far) -> None:
    with observing(fresh, far) as gateway:
        assert ready(gateway)["enforces"] is False
        status = run_cli("status", "--control", f"127.0.0.1:{gateway.control_port}")
        assert "observing only: nothing is denied or held" in status.stdout
        (output,) = fresh.folder.glob("policies-*/gateway.out")
        assert "NOTHING IS DENIED OR HELD" in output.read_text()


def test_the_command_line_has_it_too_and_lists_show_what_may_be_called_then(fresh) -> None:
    with fresh.gateway("run", more=("--observe",)) as gateway:
        assert "delete_order" in fresh.pipeline("list", gateway=gateway, token=fresh.token()).text
        assert ready(gateway)["enforces"] is False


def test_a_word_that_is_not_true_or_false_does_not_start(fresh, far) -> None:
    gateway = observing(fresh, far, setting="coatcheck_observe=yes")
    with pytest.raises(Exception, match="neither true nor false"), gateway:
        pass


SHADOW = """  - id: later
    who: [group:ci]
    server: shop
    tools: [get_order]
    effect: deny
    mode: shadow
  - id: some-day
    who: [group:ci]
    server: shop
    tools: [delete_order, unheard_of]
    effect: allow
    mode: shadow
masks:
"""


def test_what_a_shadow_rule_would_have_done_is_in_the_journal_and_it_does_nothing(fresh) -> None:
    fresh.policy.write_text(fresh.policy.read_text().replace("masks:\n", SHADOW))
    with fresh.gateway() as gateway:
        ask = [
            fresh.pipeline("call", tool, '{"order_id": "A-1"}', gateway=gateway, token=fresh.token())
            for tool in ("get_order", "delete_order", "unheard_of")
        ]
    assert [outcome.error is None for outcome in ask] == [True, False, False]
    (got,) = [one for one in journal(fresh, "request") if one["calls"][0]["name"] == "get_order"]
    assert got["decision"] == {"effect": "allow", "rules": ["ci-reads"]}
    assert got["shadow"] == {"effect": "deny", "rules": ["later"], "reason": "rule"}
    deleted, unheard = journal(fresh, "refusal")
    assert "shadow" not in deleted  # the deny wins over a shadow's allow
    assert unheard["shadow"] == {"effect": "allow", "rules": ["some-day"]}


def ready(gateway) -> dict:
    with build_opener(ProxyHandler({})).open(f"{gateway.control_url}/readyz", timeout=60) as answer:
        return json.loads(answer.read())
