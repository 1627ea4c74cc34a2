"""Every attack by its id: what is sent and what must come of it, in this project's own words.

Law: an id is shown by a test marked with it, by a test named in `SHOWN_ELSEWHERE`, or is in `NOT_APPLICABLE`.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """What is sent, and what must come of it."""

    sent: str
    required: str


CASES: dict[str, Case] = {
    "HTTP-01": Case("bytes that are neither HTTP nor TLS, in a tunnel", "closed, nothing sent, recorded"),
    "HTTP-02": Case("a line end before a request, a request cut in pieces", "closed, or policed like any other"),
    "HTTP-04": Case("a tunnel to a server that speaks first", "its greeting is never relayed"),
    "HTTP-05": Case("CONNECT to a port the policy does not name", "403 at CONNECT"),
    "HTTP-07": Case("an upgrade to HTTP/2 in clear", "refused, its headers never leave"),
    "HTTP-08": Case("a WebSocket handshake; a server that switches protocols", "403; 502"),
    "HTTP-10": Case("a tunnel to one server, the Host header of another", "421, the other's credential stays"),
    "HTTP-11": Case("a Host header that is not the CONNECT host", "421"),
    "HTTP-13": Case("CONNECT to an address; another TLS name", "403, or 421"),
    "HTTP-14": Case(
        "TLS without a server name; a server with another's certificate", "verified as the CONNECT host, or 502"
    ),
    "HTTP-16": Case("a whole URL inside a tunnel", "400"),
    "HTTP-17": Case("CONNECT inside a tunnel", "400"),
    "HTTP-19": Case("a path, or `*`, at the proxy port", "400"),
    "HTTP-20": Case("no Host header, two, or one that is no authority", "400; another port 421"),
    "HTTP-22": Case("HTTP/2 without :authority", "HTTP/2 is never agreed on"),
    "HTTP-23": Case("HTTP/2 with another :scheme or a whole URL as :path", "HTTP/2 is never agreed on"),
    "HTTP-25": Case(
        "a body whose length its sender did not say", "leaves with a Content-Length of its size; no HTTP/2"
    ),
    "HTTP-26": Case("two lengths, a length and chunks, a length that is no number", "400, closed"),
    "HTTP-28": Case("a transfer encoding that is not exactly chunked", "400"),
    "HTTP-29": Case("a folded header", "400"),
    "HTTP-31": Case("lines that end in a bare line feed; control characters", "400"),
    "HTTP-32": Case("a space before a colon; a line without one", "400"),
    "HTTP-34": Case("a Connection header that lists a policed one; a policed header twice", "400"),
    "HTTP-35": Case("headers that claim who the client is or what it asks for", "never leave, never decide"),
    "HTTP-37": Case("chunk extensions; malformed chunk sizes", "dropped; closed"),
    "HTTP-38": Case("trailers, of a request and of an answer", "400; dropped, never a hang"),
    "HTTP-40": Case("GET and DELETE with a body, POST without, unknown methods", "400 or 405 at an MCP endpoint"),
    "HTTP-41": Case("a request line that is not plain; other versions", "400 or 505"),
    "HTTP-43": Case("pipelined requests, one to another host", "each policed on its own"),
    "HTTP-44": Case("userinfo, backslashes, spaces and fragments in a URL; paths with two spellings", "400"),
    "HTTP-46": Case("loopback in disguise; an address the policy does not list", "refused before a connection"),
    "HTTP-47": Case("hosts that are not ASCII; punycode", "400; only where declared"),
    "HTTP-49": Case("a name whose address changes between check and use", "resolved once, the checked address dialled"),
    "HTTP-50": Case("ports that are none; ports not declared", "400 or 403"),
    "HTTP-52": Case("options that must hold, set by flag, --set and config file", "refuses to start"),
    "HTTP-53": Case("a tunnel whose TLS name would be exempt from being opened", "opened all the same; 421"),
    "HTTP-55": Case("an encoded body without a word about it", "400"),
    "HTTP-56": Case("gzip of two members, cut, or with garbage behind", "415; an answer 502"),
    "HTTP-58": Case("a body over the limit, declared or growing; costly JSON", "413 in bounded memory; 400"),
    "HTTP-59": Case("a large body; the option to stream it", "decided before its first byte leaves; refuses to start"),
    "HTTP-61": Case("heads that trickle, stall or never end", "closed at a deadline; 431"),
    "HTTP-62": Case("a large body from nobody", "401 or 407 and closed, unread"),
    "HTTP-64": Case("an expectation other than 100-continue", "417"),
    "HTTP-65": Case("an interim response before the answer", "dropped, or 502"),
    "HTTP-67": Case("an answer that is not well-formed", "502 with the caller's id"),
    "HTTP-68": Case("mitmproxy's own pages", "403"),
    "HTTP-70": Case("no listen address given", "only this machine can connect"),
    "HTTP-71": Case("more held or waiting requests than one caller may have", "429; what ended does not count"),
    "FAIL-01": Case("a hook raises before the request leaves", "5xx, nothing sent"),
    "FAIL-02": Case("a hook raises on the way back", "the answer is withheld"),
    "FAIL-04": Case("a hook is cancelled, or stalls for seconds", "nothing leaves without its record"),
    "FAIL-05": Case("memory or recursion runs out", "refused, the gateway goes on"),
    "FAIL-07": Case("the script is edited into a syntax error", "the process ends"),
    "FAIL-08": Case("the script is removed or touched", "the process ends"),
    "FAIL-10": Case("options changed through mitmweb", "refused, unchanged"),
    "FAIL-11": Case("a hook blocks the event loop", "shows in health and metrics, nothing leaves unrecorded"),
    "FAIL-13": Case("the gateway loaded twice, or not first", "refuses to start"),
    "FAIL-14": Case("SIGKILL with a hundred requests in flight", "clients fail, none is sent again"),
    "JWT-01": Case("a token that is not signed", "401"),
    "JWT-02": Case("an algorithm that is not exactly one, or none at all", "401"),
    "JWT-04": Case("an algorithm the issuer's entry does not name", "401"),
    "JWT-05": Case("an algorithm other than its key was published for; a public key as shared secret", "401"),
    "JWT-07": Case("a header that brings its own key", "401"),
    "JWT-08": Case("a kid that is a path, a URL, SQL, too long", "401; only ever compared, never logged"),
    "JWT-10": Case("a kid that names a shared secret, or a key for encryption", "401"),
    "JWT-11": Case("an extension, known or not", "401"),
    "JWT-13": Case("a member given twice", "401"),
    "JWT-14": Case("no audience, or none that is text or a list of texts", "401"),
    "JWT-16": Case("almost this gateway's audience", "401"),
    "JWT-17": Case("another gateway's audience; an audience that is a generic word", "401; does not load"),
    "JWT-19": Case("one issuer's token, another's key; almost an issuer's URL", "401"),
    "JWT-20": Case("no expiry", "401"),
    "JWT-22": Case("times that are no whole numbers of seconds", "401"),
    "JWT-23": Case("expired this second; beyond the leeway", "401; a leeway of more than a minute does not load"),
    "JWT-25": Case("a token that counts once, shown twice; its id in another token", "refused, over restarts too"),
    "JWT-26": Case("another spelling of a good token", "401; one id for every use of a token"),
    "JWT-28": Case("a subject that is no text, too long, or not one line", "401; the journal stays whole"),
    "JWT-29": Case("groups that are no list of names; claims of another type", "403"),
    "JWT-31": Case("what is not three parts of base64url", "401"),
    "JWT-32": Case("a signature of zeros; weak keys; keys on the wrong curve", "401"),
    "JWT-34": Case("an issuer that fails in every way, its keys known", "goes on with the keys it has"),
    "JWT-35": Case("an issuer that fails, its keys not known or too old", "503"),
    "JWT-37": Case("a rotated key; a key no longer published", "accepted at once; 401"),
    "JWT-38": Case(
        "keys behind a redirect, in the clear, in a file, at a private address", "not fetched; does not load"
    ),
    "JWT-40": Case("a large token as a proxy's password", "accepted"),
    "JWT-41": Case("two tokens; a list of tokens; blanks before a token", "401"),
    "JWT-43": Case(
        "a SAML assertion: unsigned, wrapped (XSW 1 to 8), commented, for others, over, one of two, used; a DTD; SHA-1",
        "not exchanged, 401 on a call; its reader asks nobody",
    ),
    "JWT-44": Case(
        "a tunnel opened by one, a request in it with another's token", "the request is the other's, both are recorded"
    ),
    "SSE-01": Case("events ended by every mix of line ends", "masked alike"),
    "SSE-02": Case("a stream cut between CR and LF, or anywhere", "the same events"),
    "SSE-04": Case("JSON over several data lines", "masked as one value"),
    "SSE-05": Case(
        "odd fields, unknown fields, comments with the secret", "read as every client reads them; no secret"
    ),
    "SSE-07": Case("a byte order mark at the start or in the middle", "dropped; nothing carried past"),
    "SSE-08": Case("a character cut in two; bytes that are not UTF-8", "whole; an error event and the end"),
    "SSE-10": Case("an event too large, or without end", "an error event and the end, nothing of it sent"),
    "SSE-11": Case("the secret over two data lines", "does not reach the caller"),
    "SSE-13": Case("an encoded stream", "asked for as identity; 502"),
    "SSE-14": Case("a Content-Length on a stream whose length changes", "sent in chunks"),
    "SSE-16": Case("comments and silence", "delivered at once"),
    "SSE-17": Case("the client leaves in mid-stream", "the server is left within a second; recorded"),
    "SSE-19": Case("a stream in UTF-16; its type in other letters", "502; masked"),
    "SSE-20": Case("other kinds of streams", "502"),
    "SSE-22": Case("events far apart", "each arrives before the next is sent"),
}

SHOWN_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "HTTP-52": ("tests/e2e/test_start.py::test_an_option_that_must_hold_refuses_to_start_when_given_otherwise",),
    "FAIL-01": ("tests/e2e/test_fail_closed.py::test_a_hook_that_raises_lets_no_byte_reach_the_server",),
    "FAIL-02": ("tests/e2e/test_fail_closed.py::test_a_hook_that_raises_on_the_way_back_withholds_the_answer",),
    "FAIL-04": ("tests/e2e/test_fail_closed.py::test_a_hook_that_raises_lets_no_byte_reach_the_server",),
    "FAIL-05": ("tests/e2e/test_fail_closed.py::test_a_hook_that_raises_lets_no_byte_reach_the_server",),
    "FAIL-07": ("tests/e2e/test_fail_closed.py::test_editing_or_removing_the_script_ends_the_process",),
    "FAIL-08": ("tests/e2e/test_fail_closed.py::test_editing_or_removing_the_script_ends_the_process",),
    "FAIL-10": ("tests/e2e/test_console.py::test_what_steers_the_gateway_is_locked",),
    "JWT-22": ("tests/identity/test_verify.py::test_an_expiry_that_is_no_number_of_seconds_is_refused",),
    "JWT-23": ("tests/identity/test_verify.py::test_leeway_is_exact_and_a_minute_at_most",),
    "JWT-25": (
        "tests/e2e/test_session_tokens.py::test_a_token_of_a_one_time_issuer_is_exchanged_once_over_restarts_too",
    ),
    "JWT-34": ("tests/identity/test_keys.py::test_a_failed_refresh_keeps_the_keys_until_they_are_too_old",),
    "JWT-35": ("tests/identity/test_keys.py::test_an_issuer_says_how_old_its_keys_may_become",),
    "JWT-37": ("tests/identity/test_keys.py::test_a_refresh_that_began_before_a_rotation_does_not_hide_the_new_key",),
    "SSE-01": ("tests/mcp/test_sse.py::test_a_stream_is_read_as_every_client_reads_it",),
    "SSE-02": ("tests/mcp/test_sse.py::test_the_output_depends_on_the_bytes_not_on_how_they_were_split",),
    "SSE-04": ("tests/mcp/test_sse.py::test_a_stream_is_read_as_every_client_reads_it",),
    "SSE-05": ("tests/mcp/test_sse.py::test_a_stream_is_read_as_every_client_reads_it",),
    "SSE-08": ("tests/mcp/test_sse.py::test_bytes_that_are_not_utf8_end_the_stream_after_the_events_before_them",),
    "SSE-10": ("tests/mcp/test_sse.py::test_an_event_that_is_too_large_ends_the_stream_and_nothing_of_it_leaves",),
}
"""Tests outside this folder that show a case, also or alone."""

NOT_APPLICABLE: dict[str, str] = {
    "HTTP-22": "HTTP/2 is off on both sides; what is tested is that it is never agreed on",
    "HTTP-23": "HTTP/2 is off on both sides; what is tested is that it is never agreed on",
}
"""Cases that cannot arise here, and why; the tests named beside them show that."""
