"""The command line's way to a running gateway's control port.

Law: a token goes to the address given and nowhere else: no proxy, no redirect, no plain HTTP off this machine.
"""

import http.client
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from typing import Literal, TextIO
from urllib.parse import SplitResult, urlencode, urlsplit

from coatcheck.client.sources import CallerToken
from coatcheck.errors import CoatcheckError
from coatcheck.mcp.call import Json
from coatcheck_cli.options import printable

DEFAULT_CONTROL = "http://127.0.0.1:8082"
TIMEOUT_SECONDS = 30
MAX_ANSWER = 1024 * 1024
MAX_TOKEN = 64 * 1024
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name of RFC 8693
SUBJECT_TYPE = "urn:ietf:params:oauth:token-type:"

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def read_token(file: TextIO) -> str:
    """The token in the file, without the space around it. Raises `CoatcheckError`, which never holds it."""
    try:
        token = file.read(MAX_TOKEN + 1).strip()
    except UnicodeDecodeError:
        token = ""
    if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise CoatcheckError("not a bearer token", where="--token-file", hint="the file holds one token and no more")
    return token


def decide_remotely(control: str, approval_id: str, verdict: str, reason: str | None, token: str) -> dict[str, Json]:
    """POST /approvals/ID; returns the approval as it then is. Raises `CoatcheckError`."""
    body = json.dumps({"verdict": verdict, "reason": reason})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
    status, answer = _post(control, f"/approvals/{approval_id}", body, headers)
    if status == 200 and "id" in answer:
        return answer
    raise CoatcheckError(_reason(status, answer), where=approval_id, hint=_hint(status))


def exchange_token(control: str, token: CallerToken, kind: Literal["jwt", "saml2"]) -> CallerToken:
    """POST /token (RFC 8693 section 2): the session token for a caller's token. Raises `CoatcheckError`."""
    subject = {"subject_token": token.value, "subject_token_type": SUBJECT_TYPE + kind}
    body = urlencode({"grant_type": TOKEN_EXCHANGE, **subject})
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    status, answer = _post(control, "/token", body, headers)
    session = answer.get("access_token")
    if status == 200 and isinstance(session, str) and len(session) <= MAX_TOKEN and _TOKEN.fullmatch(session):
        return CallerToken(session)
    if status == 200:
        hint = "--control is the gateway's control port"
        raise CoatcheckError("what answers gives no session token", where=control, hint=hint)
    hint = {404: "this gateway exchanges no tokens; --no-exchange uses the platform's own"}.get(
        status, "coatcheck identities explain says what is wrong with a token; --no-exchange uses it as it is"
    )
    # Whoever answers has the token, and might say it back.
    what = _oauth_reason(status, answer).replace(token.value, "…")
    raise CoatcheckError(f"the token was not exchanged: {what}", where=control, hint=hint)


def _post(control: str, path: str, body: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Json]]:
    """Status and JSON answer, empty where it is none. Raises `CoatcheckError` where nobody answers."""
    url = _checked(control)
    connection = _connection(url)
    try:
        connection.request("POST", f"{url.path.rstrip('/')}{path}", body, dict(headers))
        response = connection.getresponse()
        return response.status, _parse(response.read(MAX_ANSWER))
    except (OSError, http.client.HTTPException) as error:
        what = f"the control port does not answer: {getattr(error, 'strerror', None) or type(error).__name__}"
        raise CoatcheckError(what, where=control, hint="is the gateway running? see --control") from error
    finally:
        connection.close()


def _checked(control: str) -> SplitResult:
    url = urlsplit(control if "://" in control else f"http://{control}")
    try:
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        is_usable = False
    if not is_usable or url.username is not None:
        raise CoatcheckError("not an http or https URL", where="--control", hint=f"such as {DEFAULT_CONTROL}")
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        raise CoatcheckError(
            "plain http to another machine would show the token", where="--control", hint="give an https URL"
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, url.port, timeout=TIMEOUT_SECONDS, context=context)
    return http.client.HTTPConnection(host, url.port, timeout=TIMEOUT_SECONDS)


def _parse(data: bytes) -> dict[str, Json]:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(status: int, answer: dict[str, Json]) -> str:
    error = answer.get("error")
    if isinstance(error, dict):
        for name in ("message", "reason"):
            if isinstance(said := error.get(name), str) and said:
                return printable(said)
    if isinstance(error, str) and error:
        return printable(error)
    return f"the control port answered {status}"


def _oauth_reason(status: int, answer: dict[str, Json]) -> str:
    """RFC 6749 section 5.2: a code, and words for people."""
    code, words = answer.get("error"), answer.get("error_description")
    if not isinstance(code, str) or not isinstance(words, str) or not words:
        return _reason(status, answer)
    return f"{printable(code)}: {printable(words)}"


def _hint(status: int) -> str | None:
    return {
        401: "the token is missing, expired or not one of the policy's issuers'",
        403: "this token's person may not decide this approval",
        404: "see them with: coatcheck approvals list --all",
    }.get(status)
