"""An MCP server on the official SDK that speaks HTTP+SSE (2024-11-05): its stream at `/sse`, messages at `/messages/`.

    python tests/e2e/old_server.py --port P --cert FILE --key FILE --log FILE

Every tool call that ran is a line in the log.
"""

import argparse
import sys
import warnings
from pathlib import Path

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning
from pydantic import BaseModel

from story.certificates import CertificateFiles
from story.part import Part, accepts, clean_environment, free_port

EMAIL = "ann@shop.example"


class Name(BaseModel):
    """What a client is asked for."""

    name: str


def make(log: Path) -> MCPServer:
    """The server."""
    server = MCPServer("old", version="1")

    def ran(tool: str) -> None:
        with log.open("a") as file:
            file.write(f"{tool}\n")

    @server.tool()
    async def read_order(order: str) -> dict[str, str]:
        """An order, with whose it is."""
        ran("read_order")
        return {"order": order, "email": EMAIL}

    @server.tool()
    async def refund_order(order: str) -> str:
        """Pays back."""
        ran("refund_order")
        return f"refunded {order}"

    @server.tool()
    async def delete_order(order: str) -> str:
        """Nobody may."""
        ran("delete_order")
        return f"deleted {order}"

    @server.tool()
    async def whoami(ctx: Context) -> str:
        """What the request brought."""
        ran("whoami")
        headers = ctx.headers or {}
        return str(headers.get("authorization"))

    @server.tool()
    async def count(ctx: Context, upto: int) -> str:
        """Reports how far it has come."""
        ran("count")
        for step in range(upto):
            await ctx.report_progress(step + 1, upto, f"step {step + 1}")
        return f"counted to {upto}"

    @server.tool()
    async def greet(ctx: Context) -> str:
        """Asks for a name."""
        ran("greet")
        answer = await ctx.elicit("Who are you?", Name)
        return f"{answer.action}: {answer.data.name}" if answer.action == "accept" else answer.action

    @server.tool()
    async def slow() -> str:
        """Takes its time."""
        ran("slow")
        await anyio.sleep(30)
        return "done"

    @server.resource("shop://terms")
    def terms() -> str:
        """The terms."""
        return "cash only"

    @server.prompt()
    def apology(order: str) -> str:
        """What to say."""
        return f"sorry about {order}"

    return server


class OldServer(Part):
    """The server as a process."""

    def __init__(self, folder: Path, certificate: CertificateFiles) -> None:
        self.port = free_port()
        self.log = folder / "old-calls"
        command = [sys.executable, __file__, "--port", str(self.port), "--log", str(self.log)]
        command += ["--cert", str(certificate.certificate), "--key", str(certificate.key)]
        super().__init__("the old server", command, output=folder / "old.out", environment=clean_environment())

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        return accepts(self.port)

    @property
    def url(self) -> str:
        """Where its stream is got."""
        return f"https://localhost:{self.port}/sse"

    def ran(self) -> list[str]:
        """The tools that ran until now."""
        return self.log.read_text().split() if self.log.exists() else []


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    for name in ("--log", "--cert", "--key"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    tls = {"ssl_certfile": given.cert, "ssl_keyfile": given.key}
    uvicorn.run(make(given.log).sse_app(), host="127.0.0.1", port=given.port, log_level="warning", **tls)


if __name__ == "__main__":
    main()
