import pytest

from coatcheck.masking.detectors.email import Email

FOUND = {
    "bob@example.com": "bob@example.com",
    "Write to <bob.smith+ci@mail.example.co.uk>, please.": "bob.smith+ci@mail.example.co.uk",
    "mailto:bob@example.com?subject=x": "bob@example.com",
    '{"mail":"bob@example.com"}': "bob@example.com",
    "'o'brien@example.com'": "o'brien@example.com",
    "jörg@exämple.de": "jörg@exämple.de",
    "jo\u0308rg.rene\u0301@exa\u0308mple.de": "jo\u0308rg.rene\u0301@exa\u0308mple.de",
    "संपर्क@उदाहरण.भारत": "संपर्क@उदाहरण.भारत",
    "bob@xn--exmple-cua.xn--p1ai": "bob@xn--exmple-cua.xn--p1ai",
    "bob@example.com.": "bob@example.com",
    "BOB@EXAMPLE.COM": "BOB@EXAMPLE.COM",
    "user_1@a-b.io": "user_1@a-b.io",
    "a@b@example.com": "b@example.com",
    f"{'x' * 300}@example.com": f"{'x' * 300}@example.com",
}


@pytest.mark.parametrize("text", FOUND)
def test_an_address_is_found_whole(text):
    assert [text[start:end] for start, end in Email().spans(text)] == [FOUND[text]]


@pytest.mark.parametrize(
    "text", ["", "bob", "@", "bob@", "@example.com", "bob@example", "bob@1.2", "a @ b.co", "a@.co"]
)
def test_what_is_no_address_is_left_alone(text):
    assert list(Email().spans(text)) == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [("bob@example.com", "b***@e***.com"), ("a@b.co.uk", "a***@b***.uk"), ("x@mail.example.de", "x***@m***.de")],
)
def test_the_partial_form_shows_first_letters_and_the_last_label(address, shown):
    assert Email().partial(address) == shown
    assert list(Email().spans(shown)) == []
