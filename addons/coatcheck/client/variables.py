"""The environment variables by which standard clients find the gateway and trust it, and nothing else changes.

Law: what a client inherits decides nothing: each of these is set or taken away, in both spellings where both are read.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from coatcheck.client.sources import CallerToken

USER = "ci"
"""The user name beside the token in a proxy's URL: some clients leave out a password without one."""

PROXY_VARIABLES: Final = (
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",  # read by Python, Node and Go; curl and wget read the lower-case one alone
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
)
NO_PROXY_VARIABLES: Final = ("NO_PROXY", "no_proxy")

BUNDLE_VARIABLES: Final = (
    "SSL_CERT_FILE",  # OpenSSL, so Python's ssl, httpx and the Python MCP SDK; Go; Rust's native roots; curl
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "HTTPLIB2_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
    "CODEX_CA_CERTIFICATE",
)
"""They replace what a client trusts, so they name the bundle of the system's roots and the gateway's CA."""

EXTRA_VARIABLE: Final = "NODE_EXTRA_CA_CERTS"
"""It adds to what Node trusts, so it names the gateway's CA alone."""

UNFRAMED: Final = ("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
"""Without it the AWS SDKs send bodies in a framing of their own (`aws-chunked`), which the gateway cannot look into."""

TOKEN_VARIABLE: Final = "COATCHECK_TOKEN"  # noqa: S105 - the variable's name
"""For clients that are pointed at a gateway URL and send the token in `Authorization` themselves."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach a gateway: its proxy's address, the file of its CA, the bundle, and hosts reached without it."""

    host: str
    port: int
    certificate: Path
    bundle: Path
    direct: tuple[str, ...] = ()

    def proxy_url(self, token: CallerToken) -> str:
        """What HTTPS_PROXY holds; the token stands in it as the password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{USER}:{quote(token.value, safe='')}@{host}:{self.port}"


def variables(way: Way, token: CallerToken) -> Mapping[str, str]:
    """What to set. Each value of `PROXY_VARIABLES` and of `TOKEN_VARIABLE` holds the token."""
    proxy = way.proxy_url(token)
    return MappingProxyType(
        {
            **dict.fromkeys(PROXY_VARIABLES, proxy),
            **(dict.fromkeys(NO_PROXY_VARIABLES, ",".join(way.direct)) if way.direct else {}),
            "NODE_USE_ENV_PROXY": "1",
            **dict([UNFRAMED]),
            EXTRA_VARIABLE: str(way.certificate),
            **dict.fromkeys(BUNDLE_VARIABLES, str(way.bundle)),
            TOKEN_VARIABLE: token.value,
        }
    )


def removed(way: Way) -> tuple[str, ...]:
    """What to take away: an inherited exception would lead around the gateway."""
    return () if way.direct else NO_PROXY_VARIABLES


def environment(inherited: Mapping[str, str], way: Way, token: CallerToken) -> dict[str, str]:
    """The whole environment of a client: what it inherits, less `removed`, with `variables`."""
    kept = {name: value for name, value in inherited.items() if name not in removed(way)}
    return {**kept, **variables(way, token)}


def spellings(token: CallerToken) -> tuple[str, ...]:
    """Every way this token shows in a client's output: itself, in a proxy's URL, and as Basic credentials."""
    basic = b64encode(f"{USER}:{token.value}".encode("ascii")).decode("ascii")
    return tuple(dict.fromkeys((token.value, quote(token.value, safe=""), basic)))
