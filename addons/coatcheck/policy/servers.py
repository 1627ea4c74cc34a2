"""Which server a request is for.

Law: a request belongs to the server whose URL is its longest prefix, on a segment boundary, and only when
its path has one spelling; anything else belongs to none.
Law: no spelling that some server would take for another path (`/MCP`, `/mcp;x`) brings a request under the rules of
another server, or what is said to an MCP endpoint under those of plain HTTP.
"""

from coatcheck.policy.globs import path_is_canonical, spellings
from coatcheck.policy.index import index_of
from coatcheck.policy.model import Policy, Server


def servers_at(policy: Policy, host: str, port: int) -> tuple[Server, ...]:
    """The servers at a host (lower case, an IP literal without brackets) and port, of either scheme."""
    return index_of(policy).hosts.get((host, port), ())


def server_for(policy: Policy, scheme: str, host: str, port: int, path: str) -> Server | None:
    """The server a request goes to; `path` is the URL's path without its query.

    `/mcp` is prefix of `/mcp`, `/mcp/` and `/mcp/x`, never of `/mcpx`. None where no server fits or the path
    is not canonical (dot segments, empty segments, needless percent-encoding).
    """
    if not path_is_canonical(path):
        return None
    fitting = [
        server
        for server in servers_at(policy, host, port)
        if server.scheme == scheme and _is_under(path, server.path.rstrip("/"))
    ]
    return max(fitting, key=lambda server: len(server.path.rstrip("/")), default=None)


def is_taken_for_another(policy: Policy, server: Server, path: str) -> bool:
    """Whether a path that belongs to `server` may, spelt otherwise, be under the URL of another one below it."""
    others = servers_at(policy, server.host, server.port)
    if len(others) < 2:
        return False
    spelt = spellings(path)
    return any(
        other.scheme == server.scheme
        and len(other.path.rstrip("/")) > len(server.path.rstrip("/"))
        and any(_is_under(one, other.path.rstrip("/").casefold()) for one in spelt)
        for other in others
    )


def is_endpoint(server: Server, path: str) -> bool:
    """Whether a path (no query) is that of the server's URL, however it is spelt."""
    return path == server.path or server.path.rstrip("/").casefold() in {one.rstrip("/") for one in spellings(path)}


def speaks_mcp(policy: Policy, server: Server) -> bool:
    """Whether it is an MCP server: it says so by `legacy_sse`, some rule on it names tools, resources, prompts or
    methods, or none names http.
    """
    if server.tunnel or server.legacy_sse:
        return server.legacy_sse
    return index_of(policy).on(server).speaks_mcp


def _is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")
