"""Keys come from where the policy says, stay when their issuer fails, and change when it changes them."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest
from ground import Ground, wait_until
from tokens import Key, Page, Party, accepted, present, refused, running

from story.processes import run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

SLOW = threading.Event()


def slow(_: str) -> Page:
    SLOW.wait(20)
    return 200, {}, b"{}"


FAILURES = {
    "down": lambda _: (_ for _ in ()).throw(ConnectionAbortedError),
    "500": lambda _: (500, {}, b""),
    "no JSON": lambda _: (200, {}, b"<html>sign in</html>"),
    "no keys": lambda _: (200, {}, b'{"keys":[]}'),
    "10 MB": lambda _: (200, {}, b'{"keys":[' + b" " * 10_000_000 + b"]}"),
    "deep": lambda _: (200, {}, b"[" * 900_000),
    "a redirect": lambda _: (302, {"Location": "/jwks2"}, b""),
    "cut off": lambda _: (200, {"Content-Length": "5000"}, b'{"keys":'),
    "slow": slow,
}


ELSEWHERE = Party()
"""An issuer the policy does not know: nothing may lead there."""


def names(jwks_uri: str) -> Callable[[str], Page]:
    """A configuration that names this `jwks_uri`."""
    return lambda _: (200, {}, json.dumps({"issuer": "OWN", "jwks_uri": jwks_uri}).encode())


POINTING: dict[str, Callable[[str], Page | None]] = {
    "a redirect": lambda _: (302, {"Location": f"{ELSEWHERE.url}/jwks"}, b""),
    "a redirect of the keys": lambda path: (
        (301, {"Location": f"{ELSEWHERE.url}/jwks"}, b"") if "jwks" in path else None
    ),
    "a file": names("file:///etc/passwd"),
    "in the clear": names("http://keys.example/jwks"),
    "a metadata service": names("https://169.254.169.254/jwks"),
    "a metadata service in the clear": names("http://169.254.169.254/jwks"),
    "a private address": names("https://10.0.0.1/jwks"),
    "with a password": names(f"http://a:b@{ELSEWHERE.url.removeprefix('http://')}/jwks"),
    "another issuer": lambda _: (200, {}, json.dumps({"issuer": ELSEWHERE.url, "jwks_uri": ELSEWHERE.url}).encode()),
}


def own_address() -> str | None:
    """An address of this host that is neither loopback nor public; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = ip_address(probe.getsockname()[0])
    return str(address) if address.is_private and not address.is_loopback and not address.is_unspecified else None


@pytest.fixture(scope="module")
def inside() -> Iterator[dict[str, socket.socket]]:
    """Two servers at the host's own address, one of which the policy lists; none where there is no such address."""
    address = own_address()
    with ExitStack() as stack:
        kinds = ("listed", "unlisted") if address else ()
        yield {kind: stack.enter_context(socket.create_server((address, 0))) for kind in kinds}


@pytest.fixture(scope="module")
def parties(inside) -> Iterator[dict[str, Party]]:
    keeping = {f"keeping-{number}": Party() for number in range(len(FAILURES))}
    broken = {f"broken-{number}": Party() for number in range(len(FAILURES))}
    for party, page in zip(broken.values(), FAILURES.values(), strict=True):
        party.page = page
    pointing = {f"pointing-{number}": Party() for number in range(len(POINTING))}
    for party, page in zip(pointing.values(), POINTING.values(), strict=True):
        party.page = lambda path, page=page, party=party: filled(page(path), party)
    others = {name: Party() for name in ("rotating", "dropping", "healthy", *inside)}
    yield (made := keeping | broken | pointing | others)
    SLOW.set()
    for party in (*made.values(), ELSEWHERE):
        party.__exit__()


def filled(page: Page | None, party: Party) -> Page | None:
    return page and (page[0], page[1], page[2].replace(b"OWN", party.url.encode()))


@pytest.fixture(scope="module")
def ground(place, parties, inside) -> Iterator[Ground]:
    more = {}
    for kind, server in inside.items():
        address, port = server.getsockname()
        listed = f', addresses: ["{address}/32"]' if kind == "listed" else ""
        more[kind] = f'jwks_uri: "https://{address}:{port}/jwks"{listed}'
    with running(place, parties, **more) as ground:
        yield ground


def keeping(parties: dict[str, Party], name: str) -> Party:
    return parties[f"keeping-{list(FAILURES).index(name)}"]


@pytest.mark.attack("JWT-34")
@pytest.mark.parametrize("name", FAILURES)
def test_an_issuer_that_fails_keeps_the_keys_it_gave(ground, parties, name) -> None:
    party = keeping(parties, name)
    accepted(ground, party.token())
    before, party.page = len(party.asked), FAILURES[name]
    unknown = Key(kid="unknown").sign(json.dumps(party.header(kid="unknown")), json.dumps(party.claims()))
    asking = threading.Thread(target=lambda: present(ground, unknown))  # makes the gateway ask for keys
    asking.start()
    assert wait_until(lambda: len(party.asked) > before)
    accepted(ground, party.token())  # also while it waits for the slow one
    accepted(ground, parties["healthy"].token())
    SLOW.set()
    asking.join(timeout=60)
    refused(ground, unknown, {"issuer-unreachable", "unknown-key"}, status=503)
    accepted(ground, party.token())


@pytest.mark.attack("JWT-37")
def test_the_first_token_of_a_new_key_is_accepted(ground, parties) -> None:
    party = parties["rotating"]
    accepted(ground, party.token())
    old = party.keys[-1]
    party.keys.append(Key(kid="k2"))
    accepted(ground, party.token())
    accepted(ground, party.token(key=old, header={"kid": old.kid}))


@pytest.mark.attack("JWT-37")
def test_a_key_that_is_no_longer_published_stops_counting_once_its_issuer_was_asked(ground, parties) -> None:
    party = parties["dropping"]
    accepted(ground, party.token())
    old, party.keys = party.keys[-1], [Key(kid="k2")]
    accepted(ground, party.token())
    refused(ground, party.token(key=old, header={"kid": old.kid}), "unknown-key")


@pytest.mark.attack("JWT-34", "JWT-35")
@pytest.mark.parametrize("name", FAILURES)
def test_an_issuer_that_never_gave_keys_is_a_503(ground, parties, name) -> None:
    party = parties[f"broken-{list(FAILURES).index(name)}"]
    SLOW.set()
    accepted(ground, parties["healthy"].token())
    refused(ground, party.token(), "issuer-unreachable", status=503)


@pytest.mark.attack("JWT-38")
@pytest.mark.parametrize("name", POINTING)
def test_keys_are_not_fetched_where_an_issuers_answer_points_to(ground, parties, name) -> None:
    accepted(ground, parties["healthy"].token())
    refused(ground, parties[f"pointing-{list(POINTING).index(name)}"].token(), "issuer-unreachable", status=503)
    assert ELSEWHERE.asked == []


@pytest.mark.attack("JWT-38")
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("jwks_uri: https://keys.example/jwks", 0),
        ("jwks_uri: http://127.0.0.1:9/jwks", 0),
        ("jwks_uri: http://keys.example/jwks", 1),
        ("jwks_uri: http://127.0.0.1.keys.example/jwks", 1),
        ("jwks_uri: http://169.254.169.254/jwks", 1),
        ("jwks_uri: file:///etc/passwd", 1),
        ("jwks_uri: ftp://keys.example/jwks", 1),
        ("jwks_uri: https://a:b@keys.example/jwks", 1),
        ("jwks_uri: https://2852039166/jwks", 1),
        ("jwks_uri: https://0xa9fea9fe/jwks", 1),
        ("jwks_uri: https://keys.example/jwks#x", 1),
    ],
)
def test_a_policy_cannot_name_keys_in_the_clear(place, line, status) -> None:
    policy = place.folder / "keys.yaml"
    policy.write_text(place.policy_text().replace("algorithms: [ES256]", f"algorithms: [ES256]\n    {line}"))
    assert run_cli("policy", "check", "--policy", str(policy)).returncode == status


@pytest.mark.attack("JWT-38")
def test_an_address_that_is_not_public_is_dialled_for_keys_only_where_it_is_listed(ground, parties, inside) -> None:
    """The host's own address stands for any private one."""
    if not inside:
        pytest.skip("this host has no private address but loopback: connect it to a network")
    for kind in inside:
        refused(ground, parties[kind].token(), "issuer-unreachable", status=503)
    assert is_dialled(inside["listed"])
    assert not is_dialled(inside["unlisted"])


def is_dialled(server: socket.socket) -> bool:
    """Whether somebody connected. What is waiting to be accepted is there at once."""
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.attack("JWT-19")
def test_a_token_signed_by_nobody_known_asks_for_no_keys_but_its_issuers(ground, parties) -> None:
    accepted(ground, parties["healthy"].token())
    refused(ground, parties["healthy"].token(iss=ELSEWHERE.url), "wrong-issuer")
    assert ELSEWHERE.asked == []
