"""An exchange request is read strictly; what OAuth says is not ours to know is passed over."""

import base64
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.identity.token_request import (
    ACCESS_TOKEN,
    GRANT_TYPE,
    JWT,
    SAML2,
    TokenRequestError,
    read_assertion,
    read_token_request,
)

FORM = "application/x-www-form-urlencoded"
AUDIENCE = "https://gateway.acme.dev"
GOOD = {"grant_type": GRANT_TYPE, "subject_token": "a.b.c", "subject_token_type": JWT}


def read(form: dict[str, str] | bytes, content_type: str = FORM):
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    return read_token_request(body, content_type, audience=AUDIENCE)


@pytest.mark.parametrize(
    ("more", "kind", "issued_type"),
    [
        pytest.param({}, "jwt", ACCESS_TOKEN, id="least"),
        pytest.param({"audience": AUDIENCE, "resource": AUDIENCE}, "jwt", ACCESS_TOKEN, id="audience"),
        pytest.param({"requested_token_type": JWT}, "jwt", JWT, id="jwt wanted"),
        pytest.param({"subject_token_type": SAML2}, "saml2", ACCESS_TOKEN, id="saml"),
        pytest.param({"client_id": "ci", "x": "y"}, "jwt", ACCESS_TOKEN, id="not ours to know"),
        pytest.param({"scope": "", "audience": ""}, "jwt", ACCESS_TOKEN, id="without a value it is left out"),
    ],
)
def test_a_good_request_is_read(more, kind, issued_type) -> None:
    found = read(GOOD | more)
    assert (found.subject_token, found.kind, found.issued_type) == ("a.b.c", kind, issued_type)
    assert "a.b.c" not in repr(found)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"grant_type": None}, "invalid_request", id="no grant"),
        pytest.param({"grant_type": "password"}, "unsupported_grant_type", id="another grant"),
        pytest.param({"subject_token": None}, "invalid_request", id="no token"),
        pytest.param({"subject_token_type": None}, "invalid_request", id="no type"),
        pytest.param({"subject_token_type": "jwt"}, "unsupported_token_type", id="an unknown type"),
        pytest.param({"audience": "https://else.example"}, "invalid_target", id="another audience"),
        pytest.param({"resource": AUDIENCE + "/"}, "invalid_target", id="another resource"),
        pytest.param({"scope": "all"}, "invalid_scope", id="scope"),
        pytest.param({"actor_token": "x"}, "invalid_request", id="an actor"),
        pytest.param({"requested_token_type": SAML2}, "invalid_request", id="SAML wanted"),
    ],
)
def test_what_cannot_be_done_is_told_by_its_code(change, code) -> None:
    form = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(TokenRequestError) as caught:
        read(form)
    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(urlencode(GOOD).encode() + b"&subject_token=x.y.z", FORM, id="a parameter twice"),
        pytest.param(urlencode(GOOD).encode() + b"&client_id=&client_id=", FORM, id="twice without a value"),
        pytest.param(urlencode(GOOD).encode(), "application/json", id="another type"),
        pytest.param(urlencode(GOOD).encode(), "", id="no type"),
        pytest.param(urlencode(GOOD).encode(), FORM + "; charset=utf-16", id="another charset"),
        pytest.param(urlencode(GOOD).encode() + b"&x=%ff", FORM, id="not UTF-8"),
        pytest.param(urlencode(GOOD).encode() + b"&x=\xff", FORM, id="not ASCII"),
        pytest.param(b"&".join(b"a%d=1" % n for n in range(1000)), FORM, id="a thousand parameters"),
        pytest.param(b"no form", FORM, id="no form"),
        pytest.param(b"", FORM, id="nothing"),
    ],
)
def test_what_is_no_plain_form_is_refused(body, content_type) -> None:
    with pytest.raises(TokenRequestError) as caught:
        read(body, content_type)
    assert caught.value.code == "invalid_request"


def test_the_form_may_name_its_charset() -> None:
    assert read(GOOD, FORM + "; charset=UTF-8").kind == "jwt"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_never_break(body: bytes) -> None:
    with pytest.raises(TokenRequestError) as caught:
        read(body)
    assert caught.value.status == 400


@given(st.binary(min_size=1, max_size=200))
def test_an_assertion_has_one_spelling(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert read_assertion(text) == data
    for other in (text + "=", text + "\n", " " + text, text + "é"):
        with pytest.raises(Refusal):
            read_assertion(other)


@pytest.mark.parametrize("text", ["", "+/+/", "QQ==", "QR", "a"])
def test_what_is_not_base64url_is_refused(text) -> None:
    with pytest.raises(Refusal, match="not base64url"):
        read_assertion(text)
