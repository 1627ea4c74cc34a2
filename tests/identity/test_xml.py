import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.identity.xml import MAX_BYTES, MAX_DEPTH, MAX_PARTS, Element, read_xml

BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "boom"}">' for n in range(9))


def test_a_document_becomes_plain_values():
    root = read_xml(b'<?xml version="1.0" encoding="utf-8"?>\n<a xmlns="u" x="1">t&amp;<b xmlns=""/>u&#10;</a>\n')
    assert root == Element("{u}a", {"x": "1"}, (Element("b", {}, (), ""),), "t&u\n")
    assert [each.name for each in root.iter()] == ["{u}a", "b"]
    assert (root.all("b"), root.all("{u}b")) == (root.children, ())
    assert not root.is_container
    assert read_xml(b"<a>\n <b/></a>").is_container


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not XML"),
        (b"a", "not XML"),
        (b"<a>", "not XML"),
        (b"<a/><b/>", "not XML"),
        (b" <a/>", "first byte"),
        (b"\xef\xbb\xbf<a/>", "first byte"),
        ("<a/>".encode("utf-16"), "first byte"),
        ("<a/>".encode("utf-16-le"), "UTF-8"),
        (b"<a>\xff</a>", "UTF-8"),
        (b"<a>\xed\xa0\x80</a>", "UTF-8"),
        (b"<a>\0</a>", "UTF-8"),
        (b"<a>&#0;</a>", "not XML"),
        (b'<?xml version="1.0" encoding="utf-7"?><a/>', "in UTF-8"),
        (b'<?xml version="1.0" encoding="iso-8859-1"?><a/>', "in UTF-8"),
        (b'<?xml version="1.1"?><a/>', "XML 1.0"),
        (b"<!DOCTYPE a><a/>", "document type"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><a/>', "document type"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "document type"),
        (b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x">%x;]><a/>', "document type"),
        (f"<!DOCTYPE a [{BOMB}]><a>&e8;</a>".encode(), "document type"),
        (b"<a>&x;</a>", "not XML"),
        (b"<?pi x?><a/>", "processing instruction"),
        (b"<a/><?pi x?>", "processing instruction"),
        (b'<?xml-stylesheet href="http://127.0.0.1:1/"?><a/>', "processing instruction"),
        (b"<a>b<!-- -->c</a>", "comment"),
        (b"<a/><!---->", "comment"),
        (b"<a><![CDATA[b]]></a>", "CDATA"),
        (b'<a x="1" x="2"/>', "not XML"),
        (b'<a xmlns:x="u" xmlns:y="u" x:c="1" y:c="2"/>', "not XML"),
        (b"<x:a/>", "not XML"),
    ],
)
def test_whatever_could_be_read_two_ways_is_refused(data, what):
    with pytest.raises(ValueError, match=what):
        read_xml(data)
    assert read_xml(b"<a>b</a>").text == "b"


def declaring(elements: int) -> bytes:
    """A document of this many elements that declare a namespace each, in one that declares none."""
    return b"<a>" + b'<b xmlns=""/>' * elements + b"</a>"


def test_size_depth_and_parts_are_bounded():
    for good, bad, what in (
        (b"<a>" + b"x" * (MAX_BYTES - 7) + b"</a>", b"<a>" + b"x" * (MAX_BYTES - 6) + b"</a>", "larger"),
        (b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH, b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1), "deeply"),
        (b"<a>" + b"<b/>" * (MAX_PARTS - 1) + b"</a>", b"<a>" + b"<b/>" * MAX_PARTS + b"</a>", "parts"),
        (declaring(MAX_PARTS // 2 - 1), declaring(MAX_PARTS // 2), "parts"),
    ):
        assert read_xml(good)
        with pytest.raises(ValueError, match=what):
            read_xml(bad)


def test_nothing_is_fetched_whatever_a_document_names():
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    documents = (
        f'<!DOCTYPE a SYSTEM "{url}/a.dtd"><a/>',
        f'<!DOCTYPE a [<!ENTITY x SYSTEM "{url}/x">]><a>&x;</a>',
        f'<!DOCTYPE a [<!ENTITY % x SYSTEM "{url}/p">%x;]><a/>',
        f'<a xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="{url}/i"/></a>',
        f'<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:schemaLocation="u {url}/s"/>',
    )
    for document in documents:
        try:
            read_xml(document.encode())
        except ValueError:
            continue
    server.shutdown()
    thread.join()
    server.server_close()
    assert asked == []


@settings(max_examples=200)
@given(st.binary(max_size=60).map(lambda data: b"<a>" + data + b"</a>"))
def test_any_bytes_are_a_value_or_a_value_error(data):
    try:
        root = read_xml(data)
    except ValueError:
        return
    assert root.name == "a"
