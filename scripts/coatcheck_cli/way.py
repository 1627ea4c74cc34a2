"""What `coatcheck exec` and `coatcheck env` share: their options, and the way from those to a token and certificates.

Law: the token is got, and exchanged, before anything is written or run; what fails on the way fails the command.
"""

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from coatcheck.client.bundle import bundle_of, gateway_certificate, system_roots, write_private
from coatcheck.client.sources import CallerToken, guess_source, obtain_assertion, obtain_token, parse_source
from coatcheck.client.variables import Way
from coatcheck.errors import CoatcheckError
from coatcheck.settings import parse_address
from coatcheck.state import StateDirectory
from coatcheck_cli.control_client import DEFAULT_CONTROL, exchange_token
from coatcheck_cli.options import DEFAULT_STATE, Command

CERTIFICATE_NAME = "gateway-ca.pem"
BUNDLE_NAME = "bundle.pem"

_ADDRESS = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}")

_OPTIONS = (
    click.option(
        "--token-from",
        envvar="COATCHECK_TOKEN_FROM",
        metavar="SOURCE",
        help="github, gitlab, buildkite, circleci, gcp, file:PATH, cmd:COMMAND or env:NAME; else the CI platform "
        "that this environment is of.",
    ),
    click.option(
        "--token-type",
        "kind",
        type=click.Choice(["jwt", "saml2"]),
        default="jwt",
        show_default=True,
        help="saml2: the source gives the XML of a SAML assertion.",
    ),
    click.option(
        "--audience",
        envvar="COATCHECK_AUDIENCE",
        metavar="URL",
        help="The gateway.audience of its policy: what the platform's token is minted for.",
    ),
    click.option(
        "--gateway", envvar="COATCHECK_GATEWAY", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT"
    ),
    click.option(
        "--control",
        envvar="COATCHECK_CONTROL",
        default=DEFAULT_CONTROL,
        show_default=True,
        metavar="URL",
        help="The gateway's control port, where tokens are exchanged; https, unless it is on this machine.",
    ),
    click.option(
        "--ca",
        envvar="COATCHECK_CA",
        type=click.Path(path_type=Path),
        help="The gateway's CA certificate; else ca/ca.pem of the state directory on this machine.",
    ),
    click.option("--no-exchange", is_flag=True, help="Use the platform's token itself, which may not last long."),
    click.option("--no-proxy", "direct", metavar="HOST,…", help="Hosts to reach without the gateway; else none."),
)


def way_options(command: Command) -> Command:
    """The options from `--token-from` to `--no-proxy`, passed as one `Asked` named `asked`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: object,
        token_from: str | None,
        kind: Literal["jwt", "saml2"],
        audience: str | None,
        gateway: str,
        control: str,
        ca: Path | None,
        no_exchange: bool,
        direct: str | None,
        **options: object,
    ) -> object:
        if no_exchange and kind == "saml2":
            raise click.UsageError("a SAML assertion can only be exchanged: leave --no-exchange out")
        asked = Asked(token_from, kind, audience, gateway, control, ca, not no_exchange, _hosts(direct))
        return command(*arguments, asked=asked, **options)

    out: Command = wrapped
    for decorate in reversed(_OPTIONS):
        out = decorate(out)
    return out


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options said."""

    token_from: str | None
    kind: Literal["jwt", "saml2"]
    audience: str | None
    gateway: str
    control: str
    ca: Path | None
    exchange: bool
    direct: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """All that a client needs. `tokens` are the one to use and, where it was exchanged, the platform's own."""

    host: str
    port: int
    direct: tuple[str, ...]
    tokens: tuple[CallerToken, ...]
    certificate: bytes
    bundle: bytes

    @property
    def token(self) -> CallerToken:
        """The token that clients send."""
        return self.tokens[0]

    def write(self, folder: Path) -> Way:
        """Writes both certificate files into `folder`, 0600. Raises `CoatcheckError`."""
        certificate, bundle = folder / CERTIFICATE_NAME, folder / BUNDLE_NAME
        write_private(certificate, self.certificate)
        write_private(bundle, self.bundle)
        return Way(self.host, self.port, certificate, bundle, self.direct)


def make_ready(asked: Asked, environ: Mapping[str, str]) -> Ready:
    """Gets the certificates and the token, and exchanges it. Raises `CoatcheckError`."""
    host, port = _gateway(asked.gateway)
    certificate = gateway_certificate(asked.ca or _own_certificate())
    bundle = bundle_of(system_roots(environ), certificate)
    where = "--token-from"
    source = parse_source(asked.token_from, where=where) if asked.token_from else guess_source(environ, where=where)
    is_saml = asked.kind == "saml2"
    token = obtain_assertion(source, environ) if is_saml else obtain_token(source, asked.audience, environ)
    tokens = (exchange_token(asked.control, token, asked.kind), token) if asked.exchange else (token,)
    return Ready(host, port, asked.direct, tokens, certificate, bundle)


def _gateway(text: str) -> tuple[str, int]:
    """The proxy's address. Raises `CoatcheckError`: what is not exactly an address could send the token elsewhere."""
    if not _ADDRESS.fullmatch(text):
        hint = "such as 127.0.0.1:8080; TLS to the gateway's proxy port is not something that common clients speak"
        raise CoatcheckError("not HOST:PORT", where="--gateway", hint=hint)
    return parse_address(text, where="--gateway")


def _own_certificate() -> Path:
    """The certificate of a gateway on this machine. Raises `CoatcheckError` where there is none."""
    root = Path(os.environ.get("COATCHECK_STATE") or DEFAULT_STATE).expanduser().absolute()
    path = StateDirectory(root).ca / "ca.pem"
    if not path.is_file():
        hint = "give the gateway's CA certificate: ca/ca.pem of its state directory"
        raise CoatcheckError("no gateway's state on this machine", where="--ca", hint=hint)
    return path


def _hosts(text: str | None) -> tuple[str, ...]:
    return tuple(host.strip() for host in (text or "").split(",") if host.strip())
