"""Issuers' keys, cached (OpenID Connect Discovery 1.0 section 4, RFC 7517).

Law: a failed refresh never takes keys away; only age does (the issuer's `max_stale`).
Law: callers cannot make the gateway fetch more than once per `COOLDOWN_SECONDS` and issuer, whatever they send.
Law: keys are looked up under the token's own issuer, never under another's.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from coatcheck.errors import Refusal
from coatcheck.identity.fetch import LOOPBACK, MAX_BODY_BYTES, Fetch, FetchError, fetch, is_loopback
from coatcheck.identity.jose import read_object
from coatcheck.identity.jwks import AllowedPublicKey, PublishedKey, read_jwks
from coatcheck.policy.model import IssuerSpec, Network

FRESH_SECONDS = 300.0
COOLDOWN_SECONDS = 30.0
RETRY_SECONDS = 5.0
"""How long a failed fetch is remembered before another is tried."""

type _Place = tuple[str, str | None, Path | None, Path | None, Sequence[Network]]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Cached:
    """One issuer's keys. Times are readings of the monotonic clock, in seconds."""

    keys: tuple[PublishedKey, ...] = ()
    fetched_at: float | None = None
    failed_at: float | None = None
    """When the last fetch failed; None after one that did not."""
    asked_at: float | None = None
    """When an unknown key last made us look."""
    refresh: asyncio.Task[None] | None = None


class KeySource:
    """The keys of every issuer, fetched when first needed and refreshed in the background."""

    def __init__(self, fetch: Fetch | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch: Fetch = fetch if fetch is not None else _default_fetch
        self._clock = clock
        self._cached: dict[_Place, _Cached] = {}

    async def key(self, issuer: IssuerSpec, kid: str | None, alg: str) -> AllowedPublicKey:
        """The one key of `issuer` that is named `kid` and fits `alg`; without a `kid`, the only one that fits.

        Raises `Refusal`: `unknown-key` (401), `issuer-unreachable` (503) where the keys to look in cannot be had.
        """
        cached = self._of(issuer)
        if not self._is_usable(issuer, cached):
            await self._first_fetch(issuer, cached)
        elif not self._is_fresh(cached) and not self._has_just_failed(cached):
            self._start(issuer, cached)
        found = _pick(cached.keys, kid, alg)
        if not found:
            found = await self._look_again(issuer, cached, kid, alg)
        if len(found) == 1:
            return found[0].key
        if not found and cached.failed_at is not None:
            raise _unreachable(issuer)
        raise _unknown_key(issuer, kid, several=bool(found))

    async def warm(self, issuers: Iterable[IssuerSpec]) -> None:
        """Fetches every issuer's keys, at once. A failure is logged, and tried again when a token comes.

        An issuer of SAML assertions publishes none: its name is no place to look.
        """
        refreshes = [self._start(issuer, self._of(issuer)) for issuer in issuers if issuer.saml is None]
        if refreshes:
            await asyncio.wait(refreshes)

    async def published(self, issuer: IssuerSpec) -> tuple[PublishedKey, ...]:
        """What the issuer publishes now, past the cache. Raises `FetchError`, `OSError` or `ValueError`."""
        return await asyncio.to_thread(read_jwks, await self._document(issuer))

    def _of(self, issuer: IssuerSpec) -> _Cached:
        place = (issuer.issuer, issuer.jwks_uri, issuer.jwks_file, issuer.ca, issuer.addresses)
        return self._cached.setdefault(place, _Cached())

    def _is_usable(self, issuer: IssuerSpec, cached: _Cached) -> bool:
        limit = issuer.max_stale.total_seconds()
        return cached.fetched_at is not None and self._clock() - cached.fetched_at <= limit

    def _is_fresh(self, cached: _Cached) -> bool:
        return cached.fetched_at is not None and self._clock() - cached.fetched_at < FRESH_SECONDS

    def _has_just_failed(self, cached: _Cached) -> bool:
        return cached.failed_at is not None and self._clock() - cached.failed_at < RETRY_SECONDS

    async def _first_fetch(self, issuer: IssuerSpec, cached: _Cached) -> None:
        if not self._has_just_failed(cached):
            await self._await_refresh(issuer, cached)
        if not self._is_usable(issuer, cached):
            raise _unreachable(issuer)

    async def _look_again(self, issuer: IssuerSpec, cached: _Cached, kid: str | None, alg: str) -> list[PublishedKey]:
        """What the keys may have become: a rotated key's first token arrives before the next refresh."""
        if cached.refresh is not None and not cached.refresh.done():
            await self._await_refresh(issuer, cached)
            if found := _pick(cached.keys, kid, alg):
                return found  # else that refresh may have begun before the rotation
        now = self._clock()
        if cached.asked_at is not None and now - cached.asked_at < COOLDOWN_SECONDS:
            return []
        cached.asked_at = now
        await self._await_refresh(issuer, cached)
        return _pick(cached.keys, kid, alg)

    async def _await_refresh(self, issuer: IssuerSpec, cached: _Cached) -> None:
        """Waits for the one refresh under way. A caller that leaves does not take it along."""
        await asyncio.shield(self._start(issuer, cached))

    def _start(self, issuer: IssuerSpec, cached: _Cached) -> asyncio.Task[None]:
        if cached.refresh is None or cached.refresh.done():
            cached.refresh = asyncio.create_task(self._refresh(issuer, cached), name=f"keys of {issuer.name}")
        return cached.refresh

    async def _refresh(self, issuer: IssuerSpec, cached: _Cached) -> None:
        try:
            keys = await self.published(issuer)
        except (FetchError, OSError, ValueError) as error:
            cached.failed_at = self._clock()
            _log.warning("issuer %s: its keys could not be fetched: %s", issuer.name, error)
            return
        except BaseException:
            cached.failed_at = self._clock()  # a fault counts as a failure, or every token would cause one more
            raise
        cached.keys, cached.fetched_at, cached.failed_at = keys, self._clock(), None

    async def _document(self, issuer: IssuerSpec) -> bytes:
        if issuer.jwks_file is not None:
            return await asyncio.to_thread(_read_file, issuer.jwks_file)
        return await self._get(issuer, issuer.jwks_uri or await self._discover(issuer))

    async def _get(self, issuer: IssuerSpec, url: str) -> bytes:
        """A document of the issuer's. It may lie on this machine only where the policy names this machine."""
        named = urlsplit(issuer.jwks_uri or issuer.issuer).hostname
        is_local = named is not None and is_loopback(named)
        return await self._fetch(url, issuer.ca, (*issuer.addresses, *(LOOPBACK if is_local else ())))

    async def _discover(self, issuer: IssuerSpec) -> str:
        """The `jwks_uri` of the issuer's own configuration, which must name this very issuer (section 4.3)."""
        url = issuer.issuer.removesuffix("/") + "/.well-known/openid-configuration"
        document = await asyncio.to_thread(read_object, await self._get(issuer, url))
        if document.get("issuer") != issuer.issuer:
            raise ValueError("its configuration names another issuer")
        jwks_uri = document.get("jwks_uri")
        if isinstance(jwks_uri, str) and (jwks_uri.startswith("https:") or not issuer.issuer.startswith("https:")):
            return jwks_uri
        raise ValueError("its configuration has no jwks_uri that is https")


async def _default_fetch(url: str, ca: Path | None, addresses: Sequence[Network]) -> bytes:
    return await fetch(url, ca, addresses)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BODY_BYTES + 1)
    if len(data) > MAX_BODY_BYTES:
        raise ValueError(f"larger than {MAX_BODY_BYTES} bytes")
    return data


def _pick(keys: tuple[PublishedKey, ...], kid: str | None, alg: str) -> list[PublishedKey]:
    return [key for key in keys if (kid is None or key.kid == kid) and key.fits(alg)]


def _unreachable(issuer: IssuerSpec) -> Refusal:
    message = f"the keys of issuer {issuer.name} cannot be fetched"
    return Refusal.unauthenticated("issuer-unreachable", message, status=503)


def _unknown_key(issuer: IssuerSpec, kid: str | None, *, several: bool) -> Refusal:
    which = "the key its kid names" if kid is not None else "a token without kid"
    what = f"more than one key for {which}" if several else f"no key for {which}"
    return Refusal.unauthenticated("unknown-key", f"issuer {issuer.name} publishes {what} and its alg")
