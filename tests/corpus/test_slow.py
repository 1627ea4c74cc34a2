"""A client that is slow is cut off, and the others do not notice it."""

import time

import pytest
from ground import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

HEAD_SECONDS = 10.0


@pytest.mark.attack("HTTP-61")
def test_a_head_that_does_not_come_in_time_ends_its_connection_however_it_trickles(ground) -> None:
    part = b"GET http://localhost/repos/a HTTP/1.1\r\nX-A: "
    slow = {
        name: ground.client()
        for name in ("silent", "half a head", "a byte at a time", "half a hello", "a hello by bytes")
    }
    slow |= {name: ground.tunnel() for name in ("half a head in TLS", "a byte at a time in TLS")}
    began = time.monotonic()
    refused_before = too_slow(ground)
    for name, client in slow.items():
        if "hello" in name:
            assert client.connect(ground.token()).status == 200
            client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        elif name != "silent":
            client.send(part.replace(b"http://localhost", b"") if "in TLS" in name else part)
        client.sock.settimeout(0.01)
    ended: dict[str, float] = {}
    while len(ended) < len(slow) and time.monotonic() < began + HEAD_SECONDS + 5:
        time.sleep(0.5)  # the trickle's own pace
        for name in slow.keys() - ended.keys():
            try:
                if "byte" in name:
                    slow[name].send(b"a")
                if not slow[name].sock.recv(1000):
                    ended[name] = time.monotonic() - began
            except TimeoutError:
                continue
            except OSError:
                ended[name] = time.monotonic() - began
    assert sorted(ended) == sorted(slow), f"still open: {slow.keys() - ended.keys()}"
    assert max(ended.values()) < HEAD_SECONDS + 5
    ground.is_well()
    assert wait_until(lambda: too_slow(ground) - refused_before == len(slow)), "each is in the journal"


def too_slow(ground) -> int:
    return [record.get("reason") for record in ground.journal()].count("too-slow")


@pytest.mark.attack("HTTP-61")
def test_slow_connections_do_not_keep_others_from_being_served(ground) -> None:
    slow = [ground.client() for _ in range(100)]
    for client in slow:
        client.send(b"GET http://localhost/ HTTP/1.1\r\nX-A: ")
    began = time.monotonic()
    ground.is_well()
    assert time.monotonic() - began < 3
    for client in slow:
        client.sock.close()
