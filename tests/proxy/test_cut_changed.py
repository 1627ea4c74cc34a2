"""A changed policy ends the connections that were opened by what it no longer says, and no others."""

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.connection import Server as ServerConnection

from coatcheck.policy.model import Policy, Server
from coatcheck.proxy.cut_changed import CutChanged

SHOP = Server("shop", "https://shop.test/mcp", "https", "shop.test", 443, "/mcp")
OTHER = Server("other", "https://other.test/", "https", "other.test", 443, "/")
OLD = Policy("urn:test", "1" * 64, (), servers={"shop": SHOP, "other": OTHER})


def connected(host: str, state: ConnectionState = ConnectionState.OPEN) -> SimpleNamespace:
    """What mitmproxy has of a client with one connection to a server."""
    client = Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), state=ConnectionState.OPEN)
    server = ServerConnection(address=(host, 443))
    server.state = state
    return SimpleNamespace(client=client, transports={client: None, server: None})


def cut_by(new: Policy, handler: SimpleNamespace) -> bool:
    cut: list[Client] = []
    CutChanged(lambda: [handler], cut.append).run(OLD, new)
    return cut == [handler.client]


@pytest.mark.parametrize(
    "servers",
    [
        pytest.param({"shop": replace(SHOP, addresses=(ip_network("10.0.0.0/8"),)), "other": OTHER}, id="addresses"),
        pytest.param({"shop": replace(SHOP, ca=Path("/ca.pem")), "other": OTHER}, id="ca"),
        pytest.param({"shop": replace(SHOP, scheme="http"), "other": OTHER}, id="scheme"),
        pytest.param({"other": OTHER}, id="gone"),
    ],
)
def test_a_connection_to_a_server_that_changed_is_cut_and_another_is_not(servers) -> None:
    new = replace(OLD, servers=servers)
    assert cut_by(new, connected("shop.test"))
    assert cut_by(new, connected("10.1.1.1", ConnectionState.CLOSED))
    assert not cut_by(new, connected("other.test"))


def test_changes_that_are_about_no_connection_cut_nothing() -> None:
    new = replace(OLD, servers={"shop": replace(SHOP, credential="k"), "renamed": replace(OTHER, name="renamed")})
    assert not cut_by(new, connected("shop.test"))
    assert not cut_by(new, connected("other.test"))
