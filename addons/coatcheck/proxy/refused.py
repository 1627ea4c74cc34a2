"""Events of our own on mitmproxy's way of one exchange: why a message on the wire is not taken.

They go into a stream like mitmproxy's own errors, so that its error hook is called and the caller is answered.
"""

from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError

from coatcheck.errors import Refusal


class MessageRefused(ResponseProtocolError):
    """The exchange ends here, and its caller is told the refusal."""

    def __init__(self, stream_id: int, refusal: Refusal, code: ErrorCode) -> None:
        super().__init__(stream_id, refusal.message, code)
        self.refusal = refusal


class RequestRefused(MessageRefused):
    """The fault is the client's: a refusal like any other."""

    def __init__(self, stream_id: int, refusal: Refusal) -> None:
        super().__init__(stream_id, refusal, ErrorCode.GENERIC_CLIENT_ERROR)


class AnswerRefused(MessageRefused):
    """The fault is the server's: the exchange failed."""

    def __init__(self, stream_id: int, refusal: Refusal) -> None:
        super().__init__(stream_id, refusal, ErrorCode.GENERIC_SERVER_ERROR)
