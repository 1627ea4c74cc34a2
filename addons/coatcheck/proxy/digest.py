"""The digest of a request as a flow holds it: what a release stands for."""

from mitmproxy.http import Request

from coatcheck.exchange import Digest, request_digest


def digest_of(request: Request) -> Digest:
    """SHA-256 over method, scheme, host, port, path, every header and the body, as they are now."""
    data = request.data
    return request_digest(
        method=data.method.decode("latin-1"),
        scheme=request.scheme,
        host=data.host,
        port=data.port,
        path=data.path,
        headers=data.headers.fields,
        body=data.content or b"",
    )
