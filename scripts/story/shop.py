"""The shop: an MCP server on the official Python SDK, over https, that only a real credential may use.

Law: every tool call that ran is one line in the log, written before the tool answers; a call that is not
in the log did not reach the shop.
Serves both eras of the protocol at `/mcp`: 2025-11-25 (with sessions unless `--stateless`) and 2026-07-28.

    python -m story.shop --port P --cert FILE --key FILE --credential-env SHOP_CREDENTIAL --log FILE
"""

import argparse
import base64
import hmac
import json
import os
import sys
import urllib.parse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

import anyio
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.applications import Starlette

EVENTS = 20
EVENT_GAP_SECONDS = 0.05
CARD_PREFIX = "400000004242"
"""An issuer prefix of test cards; the check digit makes each number pass Luhn."""

type Encoding = Literal["plain", "base64", "url", "hex"]


class Order(TypedDict):
    """An order with the personal data a mask must take out."""

    id: str
    total: int
    email: str
    card: str
    ssn: str


class Done(TypedDict):
    """What a writing tool did."""

    order: str
    done: str


def card_number(n: int) -> str:
    """The n-th (0 to 999) test card number, 16 digits, valid under Luhn (ISO/IEC 7812-1 annex B)."""
    digits = f"{CARD_PREFIX}{n:03d}"
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return f"{digits}{-total % 10}"


def order(n: int) -> Order:
    """The n-th order: the same data each time, so that a test knows what must not appear."""
    return Order(
        id=f"A-{1000 + n}",
        total=1990 + n,
        email=f"buyer-{n:02d}@customers.example",
        card=card_number(n),
        ssn=f"900-55-{4000 + n}",
    )


ORDERS: Mapping[str, Order] = {found["id"]: found for found in map(order, range(EVENTS))}


def personal_data() -> tuple[str, ...]:
    """Every e-mail address, card number and social security number the shop holds."""
    return tuple(value for one in ORDERS.values() for value in (one["email"], one["card"], one["ssn"]))


class Log:
    """The calls that ran, one JSON object a line: `tool`, `arguments`, `authorization_ok`."""

    def __init__(self, path: Path, credential: str) -> None:
        self._path = path
        self._credential = credential

    def ran(self, tool: str, context: Context, **arguments: object) -> None:
        """Appends one call. Written through to the file before the tool answers."""
        presented = (context.headers or {}).get("authorization", "")
        line = {
            "tool": tool,
            "arguments": arguments,
            "authorization_ok": hmac.compare_digest(presented.encode(), f"Bearer {self._credential}".encode()),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


class CredentialCheck:
    """The SDK's token verifier: one static credential, compared in constant time."""

    def __init__(self, credential: str) -> None:
        self._credential = credential

    async def verify_token(self, token: str) -> AccessToken | None:
        """The access the credential gives, None for anything else (the SDK answers 401)."""
        if not hmac.compare_digest(token.encode(), self._credential.encode()):
            return None
        return AccessToken(token=token, client_id="the-credential", scopes=[])


def make_shop(credential: str, log: Log, *, stateless: bool = False) -> Starlette:
    """The shop as an ASGI application with its MCP endpoint at `/mcp`."""
    shop = MCPServer(
        "shop",
        version="1",
        log_level="WARNING",
        token_verifier=CredentialCheck(credential),
        auth=AuthSettings(issuer_url="https://localhost/", resource_server_url=None),  # type: ignore[arg-type]  # pydantic parses the URL
    )
    _add_reading_tools(shop, log)
    _add_writing_tools(shop, log)
    _add_export(shop, log)
    _add_whoami(shop, log)
    return shop.streamable_http_app(stateless_http=stateless)


def _add_reading_tools(shop: MCPServer[dict[str, object]], log: Log) -> None:
    @shop.tool()
    async def get_order(order_id: str, context: Context) -> Order:
        """One order by its id."""
        log.ran("get_order", context, order_id=order_id)
        if order_id not in ORDERS:
            raise ToolError(f"no order {order_id}")
        return ORDERS[order_id]

    @shop.tool()
    async def list_orders(context: Context) -> list[str]:
        """The ids of all orders."""
        log.ran("list_orders", context)
        return list(ORDERS)

    @shop.tool()
    async def slow(seconds: float, context: Context) -> Done:
        """Takes `seconds` (at most 60) to answer."""
        log.ran("slow", context, seconds=seconds)
        await anyio.sleep(min(seconds, 60))
        return Done(order="", done=f"waited {seconds} s")


def _add_writing_tools(shop: MCPServer[dict[str, object]], log: Log) -> None:
    @shop.tool()
    async def refund_order(order_id: str, amount: int, context: Context) -> Done:
        """Pays `amount` cents back, for whatever order."""
        log.ran("refund_order", context, order_id=order_id, amount=amount)
        return Done(order=order_id, done=f"refunded {amount}")

    @shop.tool()
    async def delete_order(order_id: str, context: Context) -> Done:
        """Deletes an order (the log says so; the shelf is the same for every test)."""
        log.ran("delete_order", context, order_id=order_id)
        return Done(order=order_id, done="deleted")


def _add_export(shop: MCPServer[dict[str, object]], log: Log) -> None:
    @shop.tool()
    async def export_orders(context: Context) -> dict[str, int]:
        """All orders, one event each: as progress where the caller asked for it, else as log messages."""
        log.ran("export_orders", context)
        meta = context.request_context.meta or {}
        for n, one in enumerate(ORDERS.values()):
            text = f"{one['id']} {one['email']} {one['card']}"
            if "progress_token" in meta:
                await context.report_progress(n + 1, EVENTS, text)
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", MCPDeprecationWarning)
                    await context.info(text)
            await anyio.sleep(EVENT_GAP_SECONDS)
        return {"exported": EVENTS}


def _add_whoami(shop: MCPServer[dict[str, object]], log: Log) -> None:
    @shop.tool()
    async def whoami(context: Context, encoding: Encoding = "plain") -> dict[str, str]:
        """The headers this request arrived with, secrets and all, each value in `encoding`."""
        log.ran("whoami", context)
        return {name: _encode(value, encoding) for name, value in (context.headers or {}).items()}


def _encode(value: str, encoding: Encoding) -> str:
    match encoding:
        case "plain":
            return value
        case "base64":
            return base64.b64encode(value.encode()).decode()
        case "url":
            return urllib.parse.quote(value, safe="")
        case "hex":
            return value.encode().hex()


def main() -> None:
    """Serves until it is ended by a signal."""
    parser = argparse.ArgumentParser(prog="python -m story.shop", description="An MCP server that keeps orders.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cert", type=Path, required=True, help="certificate chain, PEM")
    parser.add_argument("--key", type=Path, required=True, help="private key, PEM")
    parser.add_argument("--credential-env", required=True, help="the variable that holds the credential to demand")
    parser.add_argument("--log", type=Path, required=True, help="where each executed call becomes a line")
    parser.add_argument("--stateless", action="store_true", help="no sessions in the 2025-11-25 era")
    arguments = parser.parse_args()
    credential = os.environ.get(arguments.credential_env, "")
    if not credential:
        sys.exit(f"error: {arguments.credential_env} is not set")
    arguments.log.touch()
    app = make_shop(credential, Log(arguments.log, credential), stateless=arguments.stateless)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=arguments.port,
        ssl_certfile=arguments.cert,
        ssl_keyfile=arguments.key,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
