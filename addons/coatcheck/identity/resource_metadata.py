"""What a gateway URL says of itself to OAuth clients (RFC 9728; MCP 2025-11-25 and 2026-07-28, authorization).

Law: `resource` is the very URL the client dialled, in canonical form; a client refuses any other.
"""

from collections.abc import Iterable
from urllib.parse import quote

from coatcheck.mcp.call import Json

WELL_KNOWN = "/.well-known/"
PLACE = WELL_KNOWN + "oauth-protected-resource"
_PATH_CHARACTERS = "/%:@!$&'()*+,;="  # RFC 3986 section 3.3, with what is encoded already: the URL goes into a header


def described_path(path: str) -> str | None:
    """The path that a metadata document's path speaks of: `/mcp` for `/.well-known/oauth-protected-resource/mcp`, the
    empty text where it names none; None for any other path (RFC 9728 section 3.1).
    """
    if path == PLACE:
        return ""
    return path.removeprefix(PLACE) if path.startswith(PLACE + "/") else None


def metadata_url(origin: str, path: str) -> str:
    """Where the metadata of the resource at `origin` and `path` is: the path stands behind the well-known one."""
    return f"{origin}{PLACE}{'' if path == '/' else quote(path, safe=_PATH_CHARACTERS)}"


def resource_metadata(resource: str, issuers: Iterable[str]) -> dict[str, Json]:
    """The document for one resource (RFC 9728 section 2): tokens come from the policy's issuers, in a header only.

    Issuers that are not at a URL (SAML's may be any name) cannot be asked, and are left out.
    """
    servers: list[Json] = [issuer for issuer in sorted(issuers) if issuer.startswith(("https://", "http://"))]
    return {"resource": resource, "authorization_servers": servers, "bearer_methods_supported": ["header"]}
