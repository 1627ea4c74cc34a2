"""A message's head and its body in one write: one TLS record and one turn of the operating system instead of two.

Law: the same bytes leave in the same order; a head whose body does not follow leaves before whatever does, unless that
is the end of a request that was broken off: then it does not leave at all.

mitmproxy hands a connection the head of a whole message, and then, in the same turn, its body.
"""

from collections.abc import Iterator

from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http import _events as http
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Connection, Http1Server

type Commands = Iterator[commands.Command]

SMALL = 64 * 1024
"""Bytes of a body above which copying it behind its head would cost more than a second write."""

_HELD = "_coatcheck_head"
"""The attribute of a connection that holds a head whose body comes next."""

_original_request = Http1Client.send
_original_answer = Http1Server.send


def install() -> None:
    """Puts this before what mitmproxy's HTTP/1 connections send."""
    Http1Client.send = _send_request  # type: ignore[method-assign,assignment]
    Http1Server.send = _send_answer  # type: ignore[method-assign,assignment]


def _send_request(connection: Http1Client, event: HttpEvent) -> Commands:
    is_head = isinstance(event, http.RequestHeaders) and not event.end_stream and not event.request.stream
    return _joined(connection, event, _original_request(connection, event), is_head=is_head)


def _send_answer(connection: Http1Server, event: HttpEvent) -> Commands:
    is_head = isinstance(event, http.ResponseHeaders) and not event.end_stream and not event.response.stream
    return _joined(connection, event, _original_answer(connection, event), is_head=is_head)


def _joined(connection: Http1Connection, event: HttpEvent, sent: Commands, *, is_head: bool) -> Commands:
    """`sent`, what the connection itself does for `event`; a head is kept back, and goes out before anything else."""
    head: bytes = vars(connection).pop(_HELD, b"")
    joins = bool(head) and isinstance(event, http.RequestData | http.ResponseData) and len(event.data) <= SMALL
    if head and not joins and not isinstance(event, http.RequestProtocolError):
        yield commands.SendData(connection.conn, head)
    for command in sent:
        if isinstance(command, commands.SendData):
            if is_head:
                setattr(connection, _HELD, command.data)
                continue
            if joins:
                command.data, joins = head + command.data, False
        yield command
    if joins:
        yield commands.SendData(connection.conn, head)
