"""A job's short token is exchanged for a session token, which outlives it and can be taken back."""

import base64
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlencode

import jwt
import pytest
from far_end import FarEnd, gateway_with
from ground import wait_until
from raw import RawClient, call, head, proxy_authorization
from reviewer import decide, wait_for_approval

from coatcheck.identity.token_request import ACCESS_TOKEN, GRANT_TYPE, JWT, SAML2
from coatcheck.journal.read import records
from story.cast import Pipeline

pytestmark = pytest.mark.e2e


def ask(gateway, path: str, form: dict[str, str] | None = None) -> tuple[int, dict]:
    """A request to the control port: a form where one is given."""
    data = urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(gateway.control_url + path, data=data), timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def exchange(gateway, token: str, **more: str) -> tuple[int, dict]:
    form = {"grant_type": GRANT_TYPE, "subject_token": token, "subject_token_type": JWT}
    return ask(gateway, "/token", form | more)


def session_token(gateway, token: str) -> str:
    status, answer = exchange(gateway, token)
    assert status == 200, answer
    return answer["access_token"]


def jti_of(token: str) -> str:
    return jwt.decode(token, options={"verify_signature": False})["jti"]


def get_order(order: str = "A-1001") -> bytes:
    return call("get_order", {"order_id": order})


def journal(cast) -> list[dict]:
    return list(records(cast.state / "journal"))


def count(cast, told: dict) -> int:
    """How many refusals in the journal say that."""
    return sum(each["kind"] == "refusal" and told.items() <= each.items() for each in journal(cast))


def test_a_session_token_outlives_the_token_it_was_exchanged_for(stage) -> None:
    """The first token is given two seconds; the session token is used after that."""
    first = stage.cast.token(lifetime=2, run_id="4711", repository="acme/shop")
    shown = session_token(stage.gateway, first)

    def is_over() -> bool:
        with RawClient(stage.gateway, stage.cast) as client:
            return client.tunnel(first).post(get_order()).status == 401

    stage.gateway.wait_for(is_over)
    with RawClient(stage.gateway, stage.cast) as client:
        reply = client.tunnel(shown).post(get_order())
    assert reply.status == 200
    assert b"A-1001" in reply.body
    issued = [r for r in journal(stage.cast) if r["kind"] == "token" and r["session_token"] == jti_of(shown)]
    (request,) = [
        r for r in journal(stage.cast) if r["kind"] == "request" and r["caller"].get("session_token") == jti_of(shown)
    ]
    assert [record["event"] for record in issued] == ["issued"]
    assert request["caller"]["name"] == issued[0]["identity"] == "shop-ci"
    assert request["caller"]["run"] == issued[0]["run"] == {"run_id": "4711", "repository": "acme/shop"}
    assert request["caller"]["token_id"] == issued[0]["token_id"]


def test_it_verifies_with_the_keys_that_are_published(stage) -> None:
    status, answer = exchange(stage.gateway, stage.cast.token(run_id="1"), audience="https://gateway.shop.example")
    assert status == 200
    assert {name: answer[name] for name in ("token_type", "issued_token_type", "expires_in")} == {
        "token_type": "Bearer",
        "issued_token_type": ACCESS_TOKEN,
        "expires_in": 3600,
    }
    (key,) = ask(stage.gateway, "/.well-known/jwks.json")[1]["keys"]
    assert "d" not in key
    token = answer["access_token"]
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": key["kid"], "typ": "coatcheck-session+jwt"}
    claims = jwt.decode(token, jwt.PyJWK(key), algorithms=["ES256"], audience="https://gateway.shop.example")
    assert claims["sub"] == "shop-ci"
    assert claims["iss"].startswith("urn:coatcheck:gateway:")
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["origin"]["run"] == {"run_id": "1"}
    assert claims["origin"]["iss"] == stage.cast.issuer.url


@pytest.mark.parametrize("place", ["proxy-authorization", "authorization"])
def test_it_is_shown_in_either_place_and_never_reaches_the_server(stage, place) -> None:
    shown, far = session_token(stage.gateway, stage.cast.token()), stage.cast.shop.url.split("/")[2]
    with RawClient(stage.gateway, stage.cast) as client:
        if place == "authorization":
            client.tunnel(stage.token)
            reply = client.post(call("whoami"), Authorization=f"Bearer {shown}")
        else:
            reply = client.tunnel(shown).post(call("whoami"))
    assert reply.status == 200
    assert far
    assert shown.encode() not in reply.body
    assert shown.rpartition(".")[2].encode() not in reply.body
    last = [r for r in journal(stage.cast) if r["kind"] == "request"][-1]
    assert last["caller"]["session_token"] == jti_of(shown)


def test_two_tokens_on_one_request_are_refused(stage) -> None:
    shown, before = session_token(stage.gateway, stage.cast.token()), stage.cast.executed()
    host = stage.cast.shop.url.split("/")[2]
    lines = (f"Authorization: Bearer {stage.token}", proxy_authorization(shown), "Content-Length: 0")
    with RawClient(stage.gateway, stage.cast) as client:
        client.tunnel(shown)
        client.send(head("POST /mcp HTTP/1.1", f"Host: {host}", *lines))
        reply = client.read()
    assert (reply.status, reply.reason_code) == (401, "two-tokens")
    assert stage.cast.executed() == before


def test_a_session_token_cannot_be_exchanged_for_another(stage) -> None:
    status, answer = exchange(stage.gateway, session_token(stage.gateway, stage.cast.token()))
    assert (status, answer["error"], answer["reason"]) == (401, "invalid_request", "token-exchanged")


@pytest.mark.parametrize(
    ("form", "error", "reason"),
    [
        pytest.param({"grant_type": "client_credentials"}, "unsupported_grant_type", "bad-request", id="grant"),
        pytest.param({"grant_type": ""}, "invalid_request", "bad-request", id="no grant"),
        pytest.param({"subject_token": ""}, "invalid_request", "bad-request", id="no token"),
        pytest.param({"subject_token_type": SAML2}, "unsupported_token_type", "unsupported-token-type", id="SAML"),
        pytest.param({"audience": "https://else.example"}, "invalid_target", "wrong-audience", id="audience"),
        pytest.param({"scope": "all"}, "invalid_scope", "bad-request", id="scope"),
    ],
)
def test_what_is_no_good_request_is_told_in_oauths_words(stage, form, error, reason) -> None:
    status, answer = exchange(stage.gateway, stage.token, **form)
    assert (status, answer["error"], answer["reason"]) == (400, error, reason)
    assert "access_token" not in answer


@pytest.mark.parametrize(
    ("claims", "status", "reason"),
    [
        pytest.param({"audience": "https://else.example"}, 401, "wrong-audience", id="another audience"),
        pytest.param({"lifetime": -60}, 401, "token-expired", id="expired"),
        pytest.param({"repository_id": "1"}, 403, "unknown-identity", id="nobody"),
    ],
)
def test_a_token_that_opens_nothing_is_exchanged_for_nothing_and_that_is_journaled(
    stage, claims, status, reason
) -> None:
    told = {"target": "/token", "reason": reason, "status": status}
    seen = count(stage.cast, told)
    refused, answer = exchange(stage.gateway, stage.cast.token(**claims))
    assert (refused, answer["error"], answer["reason"]) == (status, "invalid_request", reason)
    assert wait_until(lambda: count(stage.cast, told) == seen + 1)


def test_garbage_is_a_bad_token_here_too(stage) -> None:
    status, answer = exchange(stage.gateway, "garbage")
    assert (status, answer["error"], answer["reason"]) == (401, "invalid_request", "token-malformed")


def is_refused(stage, token: str) -> bool:
    """Asked on a connection of its own: an answer that is under way at that moment is cut with it."""
    with RawClient(stage.gateway, stage.cast) as client, suppress(EOFError):
        return client.tunnel(token).post(get_order()).status == 401
    return False


def test_a_revoked_token_is_refused_within_two_seconds_in_an_open_tunnel_too(stage) -> None:
    kept, taken = (session_token(stage.gateway, stage.cast.token()) for _ in range(2))
    with RawClient(stage.gateway, stage.cast) as client, RawClient(stage.gateway, stage.cast) as other:
        client.tunnel(taken)
        assert client.post(get_order()).status == 200
        assert other.tunnel(kept).post(get_order()).status == 200
        printed = stage.cast.cli("identities", "revoke", jti_of(taken), "--state", str(stage.cast.state))
        assert printed == f"revoked {jti_of(taken)} (shop-ci)\n"
        stage.gateway.wait_for(lambda: is_refused(stage, taken), within_seconds=5)
        reply = client.post(get_order())
        assert (reply.status, reply.reason_code) == (401, "token-revoked")
        assert reply.headers["www-authenticate"].startswith("Bearer ")
        assert other.post(get_order()).status == 200
    with RawClient(stage.gateway, stage.cast) as client:
        reply = client.tunnel(taken).post(get_order())
        assert (reply.status, reply.reason_code) == (401, "token-revoked")

    def events() -> list[str]:
        records = [record for record in journal(stage.cast) if record["kind"] == "token"]
        return [record["event"] for record in records if record["session_token"] == jti_of(taken)]

    stage.gateway.wait_for(lambda: "revoked" in events())
    assert events() == ["issued", "revoked"]


def test_what_a_revoked_token_began_is_cut(fresh) -> None:
    """A relayed tunnel, which nobody asks anything in, and a stream without an end; others' go on."""
    certificate = fresh.authority.server_cert("localhost", "127.0.0.1")
    head_of_stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    waits = threading.Event()

    def endless(_heard) -> Iterator[bytes]:
        yield head_of_stream + b'f\r\ndata: {"n":1}\n\n\r\n'
        waits.wait(30)

    with FarEnd(certificate) as relayed, FarEnd(certificate, endless) as streaming:
        policy = f"""
coatcheck: 1
servers:
  packages: {{url: "https://{relayed.authority}/", addresses: [127.0.0.0/8, "::1/128"], tunnel: true}}
  events: {{url: "https://{streaming.authority}/", ca: "{fresh.authority.ca_pem}", addresses: [127.0.0.0/8, "::1/128"]}}
rules:
  - {{id: packages, who: [group:ci], server: packages, http: ["CONNECT /"], effect: allow}}
  - {{id: events, who: [group:ci], server: events, http: ["GET /**"], effect: allow}}
"""
        with gateway_with(fresh, policy) as gateway, ExitStack() as stack:
            kept, taken = (session_token(gateway, fresh.token()) for _ in range(2))

            def begin(token: str) -> tuple[RawClient, RawClient]:
                tunnel, stream = (
                    stack.enter_context(RawClient(gateway, authority=far.authority)) for far in (relayed, streaming)
                )
                assert tunnel.connect(token).status == 200
                trust = ssl.create_default_context(cafile=str(fresh.authority.ca_pem))
                tunnel.sock = trust.wrap_socket(tunnel.sock, server_hostname="localhost")
                tunnel.send(head("GET / HTTP/1.1", "Host: localhost"))
                assert tunnel.read().status == 200
                stream.tunnel(token)
                stream.send(head("GET /events HTTP/1.1", f"Host: {streaming.authority}"))
                assert stream.read_head().status == 200
                assert b'{"n":1}' in stream.read_chunk()
                return tunnel, stream

            others, ours = begin(kept), begin(taken)
            fresh.cli("identities", "revoke", jti_of(taken), "--state", str(fresh.state))
            assert [client.is_ended(5) for client in ours] == [True, True]
            assert [client.is_ended(0.1) for client in others] == [False, False]
            waits.set()


def test_a_call_that_is_held_is_not_sent_once_its_token_is_revoked(stage) -> None:
    cast, (kept, taken) = stage.cast, (session_token(stage.gateway, stage.cast.token()) for _ in range(2))

    def refund(order: str, token: str) -> Pipeline:
        arguments = json.dumps({"order_id": order, "amount": 5})
        return cast.start_pipeline("call", "refund_order", arguments, gateway=stage.gateway, token=token)

    def approve(order: str) -> None:
        wait_for_approval(stage.gateway, order)
        if order == "R-taken":
            cast.cli("identities", "revoke", jti_of(taken), "--state", str(cast.state))
            stage.gateway.wait_for(is_refused)
        decide(stage.gateway, cast.policy, "approve", order)

    def is_refused() -> bool:
        with RawClient(stage.gateway, cast) as client:
            return client.tunnel(taken).post(get_order()).status == 401

    held = refund("R-taken", taken)
    approve("R-taken")
    outcome = held.finish()
    assert "token-revoked" in outcome.text
    executed = [call["arguments"]["order_id"] for call in cast.executed() if call["tool"] == "refund_order"]
    assert "R-taken" not in executed
    held = refund("R-kept", kept)
    approve("R-kept")
    assert held.finish().error is None


def test_tokens_are_listed_with_their_run_and_never_whole(stage) -> None:
    shown = session_token(stage.gateway, stage.cast.token(run_id="9"))
    printed = stage.cast.cli("identities", "tokens", "--json", "--state", str(stage.cast.state))
    (row,) = [row for row in json.loads(printed) if row["jti"] == jti_of(shown)]
    assert (row["identity"], row["state"], row["run"]) == ("shop-ci", "active", {"run_id": "9"})
    table = stage.cast.cli("identities", "tokens", "--state", str(stage.cast.state))
    for part in shown.split("."):
        assert part not in printed
        assert part not in table


def test_no_token_stands_in_the_state_or_the_output(stage) -> None:
    first = stage.cast.token()
    shown = session_token(stage.gateway, first)
    with RawClient(stage.gateway, stage.cast) as client:
        assert client.tunnel(shown).post(get_order()).status == 200
    written = b"".join(path.read_bytes() for path in Path(stage.cast.state).rglob("*") if path.is_file())
    written += (stage.cast.folder / "gateway.out").read_bytes()
    for token in (first, shown):
        assert token.encode() not in written
        assert token.rpartition(".")[2].encode() not in written
        assert base64.b64encode(token.encode()) not in written


def test_it_is_good_over_a_restart_and_no_longer_when_its_identity_is_disabled(fresh) -> None:
    with fresh.gateway() as gateway:
        shown = session_token(gateway, fresh.token())
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        assert client.tunnel(shown).post(get_order()).status == 200
    fresh.policy.write_text(fresh.policy_text().replace("    groups: [ci]\n", "    groups: [ci]\n    disabled: true\n"))
    with fresh.gateway() as gateway, RawClient(gateway, fresh) as client:
        reply = client.tunnel(shown).post(get_order())
        assert (reply.status, reply.reason_code) == (403, "identity-disabled")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("disabled: true", "identity-disabled", id="disabled"),
        pytest.param("expires: 2020-01-01", "identity-expired", id="expired"),
    ],
)
def test_an_identity_that_is_switched_off_ends_its_tokens_of_either_kind_in_open_tunnels(fresh, line, reason) -> None:
    text = fresh.policy_text()
    with fresh.gateway() as gateway, ExitStack() as stack:
        tokens = {"session": session_token(gateway, fresh.token()), "platform": fresh.token()}
        clients = {kind: stack.enter_context(RawClient(gateway, fresh)) for kind in tokens}
        for kind, client in clients.items():
            assert client.tunnel(tokens[kind]).post(get_order()).status == 200
        switched = text.replace("    groups: [ci]\n", f"    groups: [ci]\n    {line}\n")
        assert switched != text
        fresh.policy.write_text(switched)
        gateway.wait_for(lambda: exchange(gateway, fresh.token())[0] != 200)
        status, answer = exchange(gateway, fresh.token())
        assert (status, answer["reason"]) == (403, reason)
        executed = fresh.executed()
        for client in clients.values():
            reply = client.post(get_order())
            assert (reply.status, reply.reason_code) == (403, reason)
        assert fresh.executed() == executed
        fresh.policy.write_text(text)
        gateway.wait_for(lambda: exchange(gateway, fresh.token())[0] == 200)
        for kind, token in tokens.items():
            with RawClient(gateway, fresh) as again:
                assert again.tunnel(token).post(get_order()).status == 200, kind


def test_a_token_of_a_one_time_issuer_is_exchanged_once_over_restarts_too(fresh) -> None:
    once = fresh.policy_text().replace("    algorithms: [ES256]\n", "    algorithms: [ES256]\n    one_time: true\n")
    first, second = fresh.token(), fresh.token()
    with gateway_with(fresh, "coatcheck: 1\n", base=once) as gateway:
        shown = session_token(gateway, first)
        status, answer = exchange(gateway, first)
        assert (status, answer["reason"]) == (401, "token-replayed")
        with RawClient(gateway, fresh) as client:
            assert client.tunnel(shown).post(get_order()).status == 200
        with RawClient(gateway, fresh) as client:
            reply = client.tunnel(second).post(get_order())
            assert (reply.status, reply.reason_code) == (401, "token-one-time")
    with gateway_with(fresh, "coatcheck: 1\n", base=once) as gateway:
        assert exchange(gateway, first)[1]["reason"] == "token-replayed"
        assert exchange(gateway, second)[0] == 200
