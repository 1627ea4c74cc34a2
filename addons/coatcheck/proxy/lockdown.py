"""Lockdown: the options that must hold, and what happens when somebody touches them.

Law: an option is either the operator's to set (few), forced by the gateway, or at its default. Anything else
refuses to start; while running, every change is vetoed. mitmproxy's defaults are made for inspection, not for
enforcement: `rawtcp`, for one, would relay what does not look like HTTP past every hook.
"""

import logging
import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mitmproxy import exceptions, optmanager
from mitmproxy.addons.script import Script
from mitmproxy.options import Options

from coatcheck.errors import CoatcheckError, Problem
from coatcheck.policy.model import Policy, Server
from coatcheck.settings import OPTIONS, Settings, check_names
from coatcheck.state import open_private

logger = logging.getLogger("coatcheck")

FORCED: Mapping[str, Any] = {
    "rawtcp": False,
    "http2": False,
    "http3": False,
    "websocket": False,
    "connection_strategy": "lazy",
    "upstream_cert": False,
    "body_size_limit": "10m",
    "validate_inbound_headers": True,
    "onboarding": False,
    "store_streamed_bodies": False,
    "ssl_insecure": False,
    "flow_detail": 0,
    "tcp_timeout": 600,
    "tls_version_client_min": "TLS1_2",
    "tls_version_server_min": "TLS1_2",
    "normalize_outbound_headers": True,
    "keep_host_header": True,  # what a gateway URL was called by; what leaves has the server's own (http/headers.py)
}
"""Options the gateway sets; giving another value refuses to start."""

OPERATORS = frozenset(
    {
        "listen_host", "listen_port", "scripts", "termlog_verbosity", "web_host", "web_port", "web_password",
        "web_open_browser", "key_size",
        *(option.key for option in OPTIONS),
    }
)  # fmt: skip
"""Options that are the operator's to set at start."""

HINTS = {
    "mode": "the gateway sets it; for gateway URLs use coatcheck_reverse",
    "confdir": "the gateway's CA is in the state directory; use coatcheck_state",
}

RUNNING = frozenset(
    {
        "view_filter",
        "view_order",
        "view_order_reversed",
        "web_columns",
        "content_view_lines_cutoff",
        "console_focus_follow",
    }
)
"""Options that may change while running: how mitmweb looks."""


_ARGUMENT = re.compile(r"^--set(?:=|\n)([a-z0-9_]+)|^--(?!set\b)([a-z0-9-]+)", re.MULTILINE)


def given_names(arguments: Sequence[str], configs: Collection[str] = ()) -> set[str]:
    """The option names in a command line and in the texts of `config.yaml` files, whatever their values.

    A value that happens to be mitmproxy's default cannot be told from one not given by looking at the options.
    """
    found = {match[1] or match[2] for match in _ARGUMENT.finditer("\n".join(arguments))}
    names = {name.replace("-", "_").removeprefix("no_") for name in found}
    return names.union(*map(optmanager.parse, configs))


def config_texts(folder: str) -> list[str]:
    """What mitmproxy read its options from before the gateway chose a `confdir` of its own."""
    paths = [Path(folder).expanduser() / name for name in ("config.yaml", "config.yml")]
    return [path.read_text(errors="replace") for path in paths if path.is_file()]


def check_scripts(gateway: object, scripts: Sequence[Script]) -> None:
    """Raises `CoatcheckError` unless this gateway is what the first script loads first.

    A script's name says nothing: any file can be called `gateway.py`. Scripts after it are the operator's own: they
    see flows after they were decided, and what they change is not sent. Two gateways are never first both.
    """
    first = scripts[0].ns if scripts else None
    loaded = list(getattr(first, "addons", ()))
    if not loaded or loaded[0] is not gateway:
        hint = "give -s addons/gateway.py once, before every other -s"
        raise CoatcheckError("the gateway must be the first script, and there once", where="scripts", hint=hint)


def check_unknown(options: Options) -> None:
    """Raises `CoatcheckError` for options that nobody declared, wherever they were given.

    mitmproxy keeps them for an addon to come and says nothing. Those of mitmweb may stand in a file for both.
    """
    check_names(options.deferred.keys() - OPERATORS)


def check_environment(environ: Mapping[str, str]) -> None:
    """Raises `CoatcheckError` where mitmproxy or OpenSSL would write session keys to a file."""
    for name in ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"):
        if environ.get(name):
            raise CoatcheckError("must not be set: session keys open every recorded connection", where=name)


def check_given(options: Options, given: Collection[str] = ()) -> None:
    """Raises `CoatcheckError` naming every option that was given and must not be."""
    problems = []
    for name in sorted(options.keys()):
        if name in OPERATORS or not (options.has_changed(name) or name in given):
            continue
        value = getattr(options, name)
        if name in FORCED and value != FORCED[name]:
            problems.append(Problem(name, f"must be {FORCED[name]!r}, not {value!r}", f"leave {name} out"))
        elif name not in FORCED and options.has_changed(name):
            hint = HINTS.get(name, f"leave {name} out")
            problems.append(Problem(name, "cannot be combined with the gateway", hint))
    if problems:
        raise CoatcheckError(problems)


def computed(options: Options, settings: Settings, servers: Mapping[str, Server]) -> dict[str, Any]:
    """The options that follow from the gateway's own settings: where it listens, and as what."""
    host = options.listen_host or "127.0.0.1"
    modes = [f"regular@{host}:{options.listen_port or 8080}"]
    for entry in settings.reverse:
        server = servers[entry.server]
        name = f"[{server.host}]" if ":" in server.host else server.host
        modes.append(f"reverse:{server.scheme}://{name}:{server.port}@{entry.host}:{entry.port}")
    follows: dict[str, Any] = {"mode": modes, "listen_host": host, "confdir": str(settings.state.ca)}
    if "web_password" in options:
        if settings.web_password_file is not None:
            follows["web_password"] = _first_line(settings.web_password_file)
        elif not options.web_password:
            follows["web_password"] = _made_password(settings.state.web_password)
    return follows


def _made_password(path: Path) -> str:
    """A random password, left in a private file: mitmweb would make one itself and write it to the log."""
    password = secrets.token_urlsafe(24)
    with os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
        file.write(f"{password}\n")
    logger.info("mitmweb's password is in %s", path)
    return password


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CoatcheckError(f"cannot read the password: {what}", where=str(path)) from error
    if not lines or not lines[0].strip():
        raise CoatcheckError("the password is empty", where=str(path))
    return lines[0].strip()


def force(options: Options, follows: Mapping[str, Any]) -> None:
    """Sets every forced and computed option that this mitmproxy knows."""
    wanted = {**{name: value for name, value in FORCED.items() if name in options}, **follows}
    options.update(**{name: value for name, value in wanted.items() if getattr(options, name) != value})


def veto(options: Options, updated: Collection[str], locked: Mapping[str, Any]) -> None:
    """Refuses a change while running: raising here makes mitmproxy roll it back."""
    for name in sorted(set(updated) - RUNNING):
        if name in locked and getattr(options, name) != locked[name]:
            raise exceptions.OptionsError(f"{name} is locked while the gateway runs")


def snapshot(options: Options) -> dict[str, Any]:
    """The values that must not change from now on."""
    return {name: getattr(options, name) for name in options.keys() if name not in RUNNING}  # noqa: SIM118 - not a mapping


def same_gateway_urls(settings: Settings, started: Policy) -> Callable[[Policy], None]:
    """What refuses a policy that mitmproxy's listeners, which are locked, do not fit: raises `CoatcheckError`."""
    origins = {entry.server: started.servers[entry.server].origin for entry in settings.reverse}

    def check(policy: Policy) -> None:
        for name, origin in origins.items():
            if name not in policy.servers or policy.servers[name].origin != origin:
                what = f"server {name!r}, which has a gateway URL, is gone or at another address"
                hint = "restart the gateway to change where its gateway URLs lead"
                raise CoatcheckError(what, where="coatcheck_reverse", hint=hint)

    return check
