"""What `coatcheck doctor` looks at, each as the gateway itself would.

Law: a check makes nothing that is not there, and repairs nothing.
Law: what a check says holds neither keys nor secrets.
"""

import asyncio
import errno
import http.client
import os
import socket
import ssl
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from coatcheck.errors import CoatcheckError, JournalError, Problem
from coatcheck.identity.fetch import FetchError
from coatcheck.identity.keys import KeySource
from coatcheck.journal.read import last_records
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import IssuerSpec, Policy, SamlTrust
from coatcheck.settings import parse_address
from coatcheck.state import StateDirectory
from coatcheck.vault.keys import find_master_key
from coatcheck.vault.store import Vault

SHORT_OF_SPACE = 200 * 1024 * 1024
"""Bytes. Where the journal cannot be written, nothing is sent."""
EXPIRES_SOON = timedelta(days=30)
CLOCK_TOLERANCE = timedelta(seconds=10)
"""Tokens are judged by this clock; an HTTP date is whole seconds, and its answer takes a while."""
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """One line of the report. `hint` says what to do where it is a problem."""

    check: str
    ok: bool
    what: str
    hint: str | None = None


HINTS: Mapping[str, str] = {
    "state": "the state directory is this user's alone, 0700, without links",
    "key": "it is looked for in COATCHECK_KEY_CMD, COATCHECK_KEY_FILE, $CREDENTIALS_DIRECTORY, then the state",
    "vault": "the vault opens only with the key it was made under",
    "policy": "coatcheck policy check says the same",
}
"""What to do where an error itself does not say."""


def problems_of(check: str, error: CoatcheckError) -> list[Found]:
    """Each problem of an error, as a line of its own."""
    return [Found(check, ok=False, what=str(each), hint=each.hint or HINTS.get(check)) for each in error.problems]


def check_state(state: StateDirectory) -> list[Found]:
    """The directory and every file in it are ours alone, and there is room to write."""
    try:
        state.check()
    except CoatcheckError as error:
        return problems_of("state", error)
    wrong = list(_open_to_others(state.root))
    found = problems_of("state", CoatcheckError(wrong)) if wrong else []
    room = os.statvfs(state.root)
    free = room.f_bavail * room.f_frsize
    if free < SHORT_OF_SPACE:
        what = f"{free // (1024 * 1024)} MB are free at {state.root}"
        found.append(Found("state", ok=False, what=what, hint="without room for the journal nothing is served"))
    return found or [Found("state", ok=True, what=f"{state.root}, private to this user")]


def _open_to_others(root: Path) -> Iterator[Problem]:
    for folder, folders, files in root.walk():
        for name in (*folders, *files):
            path = folder / name
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue  # a running gateway's database has files that come and go
            if stat.S_ISLNK(info.st_mode):
                yield Problem(str(path), "this is a link")
            elif info.st_uid != os.geteuid():
                yield Problem(str(path), "this belongs to another user")
            elif info.st_mode & 0o077:
                mode = stat.S_IMODE(info.st_mode)
                yield Problem(str(path), f"open to others (mode {mode:04o})", f"chmod go= {path}")


def check_vault(state: StateDirectory, environ: Mapping[str, str]) -> tuple[list[Found], frozenset[str] | None]:
    """The master key opens the vault. Also the names of its secrets, None where it does not open."""
    try:
        state.check()
        key, where = find_master_key(state, environ)
    except CoatcheckError as error:
        return problems_of("key", error), None
    beside = None
    if where == str(state.master_key):
        beside = "it lies beside what it protects; COATCHECK_KEY_CMD or COATCHECK_KEY_FILE moves it away"
    found = [Found("key", ok=True, what=where, hint=beside)]
    if not state.database.exists():
        hint = f"make it with: coatcheck init --state {state.root}"
        return [*found, Found("vault", ok=False, what=f"{state.database}: no database", hint=hint)], None
    try:
        engine = state.open_database()
        names = frozenset(Vault.open(engine, key).snapshot().names())
        engine.dispose()
    except CoatcheckError as error:
        return [*found, *problems_of("vault", error)], None
    return [*found, Found("vault", ok=True, what=f"opens with the key; secrets: {len(names)}")], names


def check_policy(path: Path | None, secrets: frozenset[str] | None) -> tuple[list[Found], Policy | None]:
    """The policy loads, with the vault's secrets. Also the policy, None where it does not."""
    if path is None:
        hint = "give --policy PATH, or set COATCHECK_POLICY"
        return [Found("policy", ok=False, what="none is given", hint=hint)], None
    try:
        policy = load_policy(path, secrets=secrets)
    except CoatcheckError as error:
        return problems_of("policy", error), None
    what = f"{path}, identities: {len(policy.identities)}, rules: {len(policy.rules)}, sha256 {policy.sha256[:12]}"
    return [Found("policy", ok=True, what=what)], policy


def check_authority(state: StateDirectory, *, now: datetime) -> Found:
    """The CA certificate that clients trust is the one the gateway signs with, and is in force."""
    path, own = state.ca / "ca.pem", state.ca / "mitmproxy-ca.pem"
    hint = f"make it with: coatcheck init --state {state.root}"
    try:
        given, signing = (x509.load_pem_x509_certificate(each.read_bytes()) for each in (path, own))
    except OSError as error:
        return Found("ca", ok=False, what=f"{error.filename}: {error.strerror}", hint=hint)
    except ValueError:
        return Found("ca", ok=False, what=f"{state.ca}: no certificate that can be read", hint=hint)
    until = given.not_valid_after_utc
    if given.fingerprint(SHA256()) != signing.fingerprint(SHA256()):
        hint = f"copy the certificate of {own} to it, and give it to the clients"
        return Found("ca", ok=False, what=f"{path} is not the certificate that the gateway signs with", hint=hint)
    if now < given.not_valid_before_utc or until - now < EXPIRES_SOON:
        hint = f"move {state.ca} away, make another with coatcheck init, and give it to the clients"
        return Found("ca", ok=False, what=f"{path} is good from {given.not_valid_before_utc} until {until}", hint=hint)
    return Found("ca", ok=True, what=f"{path}, good until {until.date()}")


def check_port(name: str, address: str, *, runs: bool) -> Found:
    """The address can be listened on, or `runs`: a gateway answers at its control port, so it is in use by it."""
    check = f"{name} port"
    try:
        host, port = parse_address(address, where=f"--{name}")
    except CoatcheckError as error:
        return problems_of(check, error)[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if runs and error.errno == errno.EADDRINUSE:
            return Found(check, ok=True, what=f"{address} is in use, and a gateway runs")
        hint = f"give another address with --{name}, or see what listens there"
        return Found(check, ok=False, what=f"{address}: {error.strerror}", hint=hint)
    return Found(check, ok=True, what=f"{address} is free")


def check_journal_clock(state: StateDirectory, *, now: datetime) -> Found | None:
    """This machine's clock is not behind the journal's last record."""
    try:
        last = last_records(state.journal, 1)
        at = datetime.fromisoformat(str(last[0]["at"])) if last else now
    except (JournalError, ValueError, KeyError, TypeError):
        return Found(
            "clock", ok=False, what="the journal's last record cannot be read", hint="coatcheck journal verify"
        )
    if at - now <= CLOCK_TOLERANCE:
        return None
    what = f"it is {now:%F %T}Z here, and the journal's last record is of {at:%F %T}Z"
    return Found("clock", ok=False, what=what, hint="set the clock: tokens are judged by it")


async def check_issuers(issuers: Sequence[IssuerSpec]) -> list[Found]:
    """Every issuer's keys can be had, and its clock agrees with this machine's."""
    found = await asyncio.gather(*(_check_issuer(issuer) for issuer in issuers))
    return [each for one in found for each in one]


async def _check_issuer(issuer: IssuerSpec) -> list[Found]:
    check = f"issuer {issuer.name}"
    if issuer.saml is not None:
        return [_check_certificates(check, issuer.saml, now=datetime.now(UTC))]
    where = issuer.jwks_file or issuer.jwks_uri or issuer.issuer
    try:
        keys = await KeySource().published(issuer)
    except (FetchError, OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        hint = "check its file" if issuer.jwks_file else "check its URL, ca: and addresses:, and this machine's network"
        return [Found(check, ok=False, what=f"{where}: {why}", hint=hint)]
    usable = [key for key in keys if any(key.fits(algorithm) for algorithm in issuer.algorithms)]
    if not usable:
        what = f"{where}: none of its {len(keys)} keys is for {', '.join(issuer.algorithms)}"
        return [Found(check, ok=False, what=what, hint="check its algorithms:")]
    found = [Found(check, ok=True, what=f"{where}, keys: {len(usable)}")]
    if issuer.jwks_file is None and (off := await asyncio.to_thread(_clock_off, issuer)) is not None:
        what = f"the clock of issuer {issuer.name} and this machine's are {abs(off.total_seconds()):.0f} s apart"
        is_near = abs(off) <= CLOCK_TOLERANCE
        found.append(Found("clock", ok=is_near, what=what, hint=None if is_near else "set the clock: see timedatectl"))
    return found


def _check_certificates(check: str, trust: SamlTrust, *, now: datetime) -> Found:
    """An issuer of assertions is asked nothing: the certificates that policy pins say whether it counts."""
    certificates = [x509.load_der_x509_certificate(each) for each in trust.certificates]
    last = max(each.not_valid_after_utc for each in certificates)
    is_good = any(each.not_valid_before_utc <= now <= each.not_valid_after_utc for each in certificates)
    if not is_good or last - now < EXPIRES_SOON:
        hint = "add the certificate it publishes now to its saml: certificate: file"
        return Found(check, ok=False, what=f"its SAML certificate is good until {last.date()}", hint=hint)
    return Found(check, ok=True, what=f"SAML certificates: {len(certificates)}, good until {last.date()}")


def _clock_off(issuer: IssuerSpec) -> timedelta | None:
    """This clock less the issuer's, by its `Date` (RFC 9110 section 6.6.1); None where it gives none."""
    url = urlsplit(issuer.jwks_uri or issuer.issuer)
    host = url.hostname or ""
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=str(issuer.ca or certifi.where()))
        connection = http.client.HTTPSConnection(host, url.port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, url.port, timeout=TIMEOUT_SECONDS)
    with closing(connection):
        try:
            connection.request("GET", "/.well-known/openid-configuration")
            date = parsedate_to_datetime(connection.getresponse().headers["Date"])
        except (OSError, http.client.HTTPException, ValueError, TypeError):
            return None
    return None if date.tzinfo is None else datetime.now(UTC) - date
