"""A pipeline: the official MCP client, unchanged, configured by its environment alone.

Law: nothing here knows the gateway. HTTPS_PROXY and SSL_CERT_FILE are all that leads through it.
Prints JSON lines: `{"event": {at, text}}` for each notification (`at`: seconds since the call was sent),
then `{"result": …}`, `{"error": {code, message, data}}` (exit 1), or `{"failed": …}` where no MCP answer
came at all (exit 2).

    python -m story.pipeline URL list
    python -m story.pipeline URL call TOOL '{"argument": 1}'
    python -m story.pipeline URL whoami
    python -m story.pipeline URL export
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping

from mcp import Client, MCPError
from mcp.types import LoggingMessageNotificationParams


def say(kind: str, content: object) -> None:
    """One JSON line, at once."""
    print(json.dumps({kind: content}, ensure_ascii=False), flush=True)


class Run:
    """One command against one server."""

    def __init__(self, url: str, mode: str) -> None:
        self._sent_at = time.monotonic()
        self._client = Client(url, mode=mode, log_level="info", logging_callback=self._logged, cache=None)

    async def tools(self) -> list[str]:
        """The names of the tools, over all pages."""
        async with self._client as client:
            names: list[str] = []
            cursor: str | None = None
            while True:
                page = await client.list_tools(cursor=cursor)
                names += [tool.name for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    return names

    async def call(self, tool: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """The tool's result as it is on the wire; progress and log messages are printed as they come."""
        async with self._client as client:
            self._sent_at = time.monotonic()
            result = await client.call_tool(tool, dict(arguments), progress_callback=self._progressed)
            return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    # The SDK's protocol fixes the parameters' names.
    async def _progressed(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        self._event(message)

    async def _logged(self, params: LoggingMessageNotificationParams) -> None:
        self._event(params.data)

    def _event(self, text: object) -> None:
        say("event", {"at": round(time.monotonic() - self._sent_at, 4), "text": text})


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside an exception group, in order."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


async def run(arguments: argparse.Namespace) -> int:
    """Runs one command; returns the exit code."""
    pipeline = Run(arguments.url, arguments.mode)
    try:
        match arguments.command:
            case "list":
                say("result", await pipeline.tools())
            case "call":
                say("result", await pipeline.call(arguments.tool, json.loads(arguments.arguments)))
            case "whoami":
                say("result", await pipeline.call("whoami", {}))
            case "export":
                say("result", await pipeline.call("export_orders", {}))
    except Exception as error:  # noqa: BLE001  # whatever went wrong is this program's answer
        answers = [leaf for leaf in leaves(error) if isinstance(leaf, MCPError)]
        if answers:
            told = answers[0].error
            say("error", {"code": told.code, "message": told.message, "data": told.data})
            return 1
        say("failed", "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error)))
        return 2
    return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m story.pipeline", description="Calls an MCP server.")
    parser.add_argument("url", help="the server's MCP endpoint")
    parser.add_argument("--mode", default="auto", help="auto, legacy or 2026-07-28")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the tools' names")
    call = commands.add_parser("call", help="one tool call")
    call.add_argument("tool")
    call.add_argument("arguments", nargs="?", default="{}", help="a JSON object")
    commands.add_parser("whoami", help="the headers the server received")
    commands.add_parser("export", help="all orders, event by event")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
