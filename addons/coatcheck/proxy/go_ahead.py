"""Go ahead: the word that a client waits for before it sends a body (`Expect: 100-continue`, RFC 9110 section 10.1.1).

Law: it is said once the head was accepted, and by the gateway: no server is asked. Where the head was refused, the
refusal is all that is said, at once.
"""

from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.layers.http import _events as http

GO_AHEAD = b"HTTP/1.1 100 Continue\r\n\r\n"


def is_awaited(stream: HttpStream) -> bool:
    """Whether the client waits for it: it said so in its head, and nothing of its body has come meanwhile.

    Takes that out of the request: mitmproxy would tell everyone to go on, and servers are not asked.
    """
    if stream.flow.request.headers.pop("expect", None) is None:
        return False
    came = stream._paused_event_queue  # noqa: SLF001 - what comes during a hook waits there
    return not any(isinstance(event, (http.RequestData, http.RequestEndOfMessage)) for event in came)
