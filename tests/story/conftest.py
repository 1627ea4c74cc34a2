"""The cast, started once a module."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from story.cast import Cast

type Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    with Cast(tmp_path_factory.mktemp("cast")) as cast:
        yield cast


@pytest.fixture
def connect(cast: Cast) -> Connect:
    """Connects to the shop directly, with the credential a caller of the gateway never holds."""

    @asynccontextmanager
    async def connected(mode: str, *, credential: str = cast.credential, **more: object) -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {credential}"}
        async with (
            httpx2.AsyncClient(headers=headers, verify=tls(cast.authority.ca_pem), trust_env=False) as http,
            Client(streamable_http_client(cast.shop.url, http_client=http), mode=mode, **more) as client,
        ):
            yield client

    return connected


def tls(ca: Path):
    import ssl

    return ssl.create_default_context(cafile=ca)
