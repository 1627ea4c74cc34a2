"""A SAML assertion is exchanged for a session token, which then makes calls."""

import base64
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest

pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")

from assertions import ISSUER, Draft, Idp, response
from far_end import gateway_with
from raw import RawClient, call

from coatcheck.identity.token_request import GRANT_TYPE, SAML2
from coatcheck.journal.read import records
from conftest import Stage
from story.cast import AUDIENCE, read_outcome
from story.processes import run_cli

pytestmark = pytest.mark.e2e

RECIPIENT = "https://gateway.shop.example/token"
POLICY = """\
coatcheck: 1
issuers:
  adfs:
    issuer: {issuer}
    saml: {{certificate: {certificate}, recipient: {recipient}}}
    groups: roles
identities:
  reports:
    issuer: adfs
    claims: {{department: finance}}
rules:
  - {{id: reports-read, who: [group:readers], server: shop, tools: ["get_*"], effect: allow}}
"""


@pytest.fixture(scope="module")
def idp() -> Idp:
    return Idp(now=datetime.now(UTC))


@pytest.fixture(scope="module")
def added(idp: Idp, tmp_path_factory: pytest.TempPathFactory) -> str:
    certificate = idp.write(tmp_path_factory.mktemp("idp") / "idp.pem")
    return POLICY.format(issuer=ISSUER, certificate=certificate, recipient=RECIPIENT)


@pytest.fixture(scope="module")
def stage(cast, added) -> Iterator[Stage]:
    with gateway_with(cast, added) as gateway:
        yield Stage(cast, gateway)


def draft(assertion_id: str, **changes) -> Draft:
    attributes = changes.pop("attributes", {"department": ["finance"], "roles": ["readers"]})
    given = {"audience": AUDIENCE, "recipient": RECIPIENT, "attributes": attributes} | changes
    return Draft(now=datetime.now(UTC), id=assertion_id, **given)


def signed(idp: Idp, assertion_id: str, **changes) -> bytes:
    return idp.sign(draft(assertion_id, **changes).xml, reference=f"#{assertion_id}")


def exchange(gateway, assertion: bytes) -> tuple[int, dict]:
    token = base64.urlsafe_b64encode(assertion).rstrip(b"=").decode()
    form = {"grant_type": GRANT_TYPE, "subject_token": token, "subject_token_type": SAML2}
    try:
        with urllib.request.urlopen(f"{gateway.control_url}/token", urlencode(form).encode(), timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def requests(cast) -> list[dict]:
    return [record for record in records(cast.state / "journal") if record["kind"] == "request"]


def test_an_assertion_becomes_a_session_token_and_that_makes_calls(stage, idp) -> None:
    status, answer = exchange(stage.gateway, response(signed(idp, "_call")))
    assert status == 200, answer
    with RawClient(stage.gateway, stage.cast) as client:
        client.tunnel(answer["access_token"])
        reply = client.post(call("get_order", {"order_id": "A-1001"}))
        assert (reply.status, b"A-1001" in reply.body) == (200, True)
        refused = client.post(call("refund_order", {"order_id": "A-1001", "amount": 5}))
        assert refused.json["error"]["data"]["reason"] == "policy-denied"
    caller = requests(stage.cast)[-1]["caller"]
    assert (caller["name"], caller["issuer"], caller["subject"]) == ("reports", "adfs", "shop-ci")


def test_coatcheck_exec_takes_an_assertion(stage, idp, tmp_path) -> None:
    assertion = tmp_path / "assertion.xml"
    assertion.write_bytes(response(signed(idp, "_exec")))
    source = ("--token-from", f"file:{assertion}", "--token-type", "saml2", "--ca", str(stage.gateway.ca_pem))
    way = ("--gateway", f"127.0.0.1:{stage.gateway.port}", "--control", stage.gateway.control_url)
    client = (
        sys.executable,
        "-m",
        "story.pipeline",
        stage.cast.shop.url,
        "call",
        "get_order",
        '{"order_id": "A-1001"}',
    )
    done = run_cli("exec", *source, *way, "--", *client)
    assert "A-1" in json.dumps(read_outcome(done.stdout).result), done.stderr
    again = run_cli("exec", *source, *way, "--", *client)
    assert (again.returncode, again.stdout) == (1, "")
    assert "the token was not exchanged" in again.stderr


def test_an_assertion_counts_once_also_after_a_restart(fresh, idp, added) -> None:
    first, other = signed(idp, "_once"), signed(idp, "_other")
    with gateway_with(fresh, added) as gateway:
        assert exchange(gateway, first)[0] == 200
        assert exchange(gateway, first)[1]["reason"] == "token-replayed"
        assert exchange(gateway, response(first))[1]["reason"] == "token-replayed"
    with gateway_with(fresh, added) as again:
        assert exchange(again, first)[1]["reason"] == "token-replayed"
        assert exchange(again, other)[0] == 200


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        pytest.param({"audience": "https://else.example"}, 401, "wrong-audience", id="another audience"),
        pytest.param({"recipient": AUDIENCE}, 401, "wrong-recipient", id="another recipient"),
        pytest.param({"expires": "2026-01-01T00:00:00Z"}, 401, "token-expired", id="expired"),
        pytest.param({"attributes": {"department": ["sales"]}}, 403, "unknown-identity", id="nobody"),
    ],
)
def test_an_assertion_that_opens_nothing_is_exchanged_for_nothing(stage, idp, changes, status, reason) -> None:
    refused, answer = exchange(stage.gateway, signed(idp, "_bad", **changes))
    assert (refused, answer["error"], answer["reason"]) == (status, "invalid_request", reason)
    assert "access_token" not in answer


def test_an_assertion_is_no_token_for_a_call(stage, idp) -> None:
    token = base64.urlsafe_b64encode(signed(idp, "_direct")).rstrip(b"=").decode()
    before = stage.cast.executed()
    with RawClient(stage.gateway, stage.cast) as client:
        assert client.tunnel(token).post(call("get_order", {"order_id": "A-1001"})).status == 401
    assert stage.cast.executed() == before


def test_the_assertion_stands_nowhere_in_state_and_output(stage, idp) -> None:
    assertion = signed(idp, "_hidden")
    assert exchange(stage.gateway, assertion)[0] == 200
    kept = assertion[assertion.index(b"<ds:SignatureValue>") + 19 :][:60]
    output = stage.gateway.output.read_bytes()
    written = b"".join(path.read_bytes() for path in Path(stage.cast.state).rglob("*") if path.is_file())
    for where in (output, written):
        assert kept not in where
        assert b"saml:Assertion" not in where
