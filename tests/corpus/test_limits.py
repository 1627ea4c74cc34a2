"""How much one caller may have in flight is bounded, and the others do not notice."""

import json

import pytest
from ground import Ground, denied, wait_until
from raw import call, head
from server import silent

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

MOST = 6


@pytest.fixture(scope="module")
def strict(place: Ground):
    """A gateway that lets one caller have few requests in flight."""
    policy = place.folder / "strict.yaml"
    policy.write_text(place.policy_text(max_in_flight=str(MOST)))
    with place.running(policy=policy) as ground:
        yield ground


@pytest.mark.attack("HTTP-71")
def test_requests_in_flight_over_the_limit_are_refused(strict) -> None:
    clients = [strict.tunnel() for _ in range(MOST)]
    before = strict.api.mark()
    records_before = len(strict.journal())
    with strict.api.answering(silent):
        for client in clients:
            client.send(strict.post())
        assert len(strict.api.wait_for_requests(before, MOST)) == MOST
        with strict.tunnel() as over:
            reply = over.outcome(strict.post())
            denied(reply, 429, "too-many-requests")
            assert json.loads(reply.body)["error"]["data"]["retryable"] is True
        for client in clients:
            client.sock.close()
        assert all(peer.ended.wait(5) for peer in strict.api.peers[before.connections :])
    assert len(strict.api.requests_since(before)) == MOST
    assert wait_until(lambda: len(exchanges(strict, "outcome", records_before)) == MOST, seconds=10)
    assert exchanges(strict, "outcome", records_before) == exchanges(strict, "request", records_before)
    assert is_served(strict)


@pytest.mark.attack("HTTP-71", "APPR-26")
def test_held_calls_over_the_limit_are_refused_and_take_nothing_from_it(strict) -> None:
    clients = [strict.tunnel() for _ in range(MOST + 4)]
    before = strict.api.mark()
    for number, client in enumerate(clients):
        client.send(strict.post(call("pay", {"number": number}, call_id=number)))
    for client in clients:
        client.sock.settimeout(0.2)
    refused = []

    def answered() -> bool:
        for client in clients:
            if client not in refused:
                try:
                    denied(client.read(), 429, "too-many-requests")
                except TimeoutError:
                    continue
                refused.append(client)
        return len(refused) == 4

    assert wait_until(answered, seconds=10), len(refused)
    assert strict.api.mark() == before
    for client in clients:
        client.sock.close()  # who leaves does not count
    assert wait_until(lambda: is_served(strict), seconds=5)
    strict.is_well("proxy")


def exchanges(ground, kind: str, start: int) -> set[str]:
    """The exchanges with a record of this kind from the record `start` on."""
    return {record["exchange"] for record in ground.journal()[start:] if record["kind"] == kind}


def is_served(ground) -> bool:
    with ground.tunnel() as client:
        return client.outcome(ground.post()).status == 200


@pytest.mark.attack("HTTP-71")
def test_many_connections_are_all_answered(strict) -> None:
    clients = [strict.client() for _ in range(100)]
    message = head("GET http://evil.example/ HTTP/1.1", "Host: evil.example")
    for client in clients:
        client.send(message)
    assert {client.read().status for client in clients} <= {403, 407}
    for client in clients:
        client.sock.close()
    assert is_served(strict)
