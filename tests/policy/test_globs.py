import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.policy import globs
from coatcheck.policy.model import HttpPattern

NAMES = st.text("ab_.-/*:é\n", min_size=1, max_size=12)
PATTERNS = st.text("ab_.*", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        pytest.param("delete_order", "delete_order", True, id="literal"),
        pytest.param("delete_order", "Delete_order", False, id="case counts"),
        pytest.param("read_*", "read_x", True, id="suffix glob"),
        pytest.param("read_*", "read_", True, id="a wildcard may be empty"),
        pytest.param("*_secret*", "get_secret_x", True, id="glob inside"),
        pytest.param("a*b*c", "a1b2b3c", True, id="two wildcards"),
        pytest.param("a*b*c", "a1c2b", False, id="order counts"),
        pytest.param("read_*", "read_x\ndelete", False, id="line feed"),
        pytest.param("read_*", "read_\u202e", False, id="bidirectional override"),
        pytest.param("*", "read x", False, id="space"),
        pytest.param("*", "", False, id="empty name"),
        pytest.param("*", "a/b", False, id="slash"),
        pytest.param("a/b", "a/b", True, id="a literal may hold any sign"),
        pytest.param("delete", "d\u0435lete", False, id="Cyrillic twin"),
        pytest.param("*", "d\u0435lete", False, id="Cyrillic twin under a wildcard"),
        pytest.param("*", "\uff44elete", False, id="full width"),
        pytest.param("search*", "\u017fearch", False, id="long s"),
        pytest.param("*", "de\u200blete", False, id="zero width"),
        pytest.param("cafe*", "cafe\u0301", False, id="combining accent"),
        pytest.param("delete", "delete\n", False, id="trailing newline"),
        pytest.param("delete", "delete ", False, id="trailing space"),
        pytest.param("*", "a" * 257, False, id="too long"),
        pytest.param("*", "a" * 128, True, id="as long as may be"),
        pytest.param("a.c", "abc", False, id="a dot is a dot"),
        pytest.param("[ab]", "a", False, id="brackets are signs"),
        pytest.param("a?", "ab", False, id="a question mark is a sign"),
    ],
)
def test_a_name_matches_only_what_its_pattern_spells(pattern, name, expected):
    assert globs.matches(pattern, name) is expected
    assert globs.name_test([pattern], deny=False)(name) is expected


@given(PATTERNS, NAMES)
@settings(max_examples=200)
def test_a_deny_never_matches_less_than_an_allow(pattern, name):
    if globs.matches(pattern, name):
        assert globs.denies_name(pattern, name)
        assert globs.name_test([pattern], deny=True)(name)


@given(PATTERNS, NAMES)
@settings(max_examples=200)
def test_matching_agrees_with_a_plain_search_over_every_split(pattern, name):
    def walks(pattern, name):
        if not pattern:
            return not name
        if pattern[0] == "*":
            gaps = [n for n in range(len(name) + 1) if all(c in "ab_.-" for c in name[:n])]
            return any(walks(pattern[1:], name[n:]) for n in gaps)
        return name[:1] == pattern[0] and walks(pattern[1:], name[1:])

    assert globs.matches(pattern, name) is walks(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "uri", "expected"),
    [
        pytest.param("file:///docs/a.md", "file:///docs/a.md", True, id="byte-equal"),
        pytest.param("file:///docs/*", "file:///docs/a.md", True, id="one segment"),
        pytest.param("file:///docs/*", "file:///docs/a/b", False, id="a wildcard stays in its segment"),
        pytest.param("file:///docs/**", "file:///docs/a/b", True, id="any depth"),
        pytest.param("file:///docs/**", "file:///docs/", True, id="nothing below"),
        pytest.param("file:///docs/**", "file:///docsx/a", False, id="segment boundary"),
        pytest.param("file:///**/a.md", "file:///x/y/a.md", True, id="depth in the middle"),
        pytest.param("file:///**/a.md", "file:///a.md", True, id="no depth in the middle"),
        pytest.param("file:///**/x/*.md", "file:///x/x/a.md", True, id="the place that fits is found"),
        pytest.param("**", "urn:isbn:0451450523", True, id="an opaque URI under everything"),
        pytest.param("repo://*/*", "repo://Acme/Shop", True, id="case of a private scheme is kept"),
        pytest.param("file:///**", "FILE:///x", False, id="upper-case scheme"),
        pytest.param("file://**", "file://localhost/x", False, id="another spelling of no host"),
        pytest.param("**", "file://localhost/x", False, id="another spelling under everything"),
        pytest.param("https://**", "https://EXAMPLE.com/x", False, id="upper-case host"),
        pytest.param("**", "%66ile:///x", False, id="encoded scheme"),
        pytest.param("file:///docs/**", "file:///docs/../etc/passwd", False, id="dot segments"),
        pytest.param("file:///docs/**", "file:///docs/%2e%2e/etc", False, id="encoded dots"),
        pytest.param("file:///docs/**", "file:///docs/..%2Fetc", False, id="dots before an encoded slash"),
        pytest.param("file:///docs/**", "file:///docs/..;/etc", False, id="dots before a parameter"),
        pytest.param("file:///docs/**", "file:///docs//a", False, id="empty segment"),
        pytest.param("file:///docs/**", "file:/docs/a", False, id="missing slashes"),
        pytest.param("file:///docs/*", "file:///docs/a#", False, id="trailing fragment"),
        pytest.param("file:///docs/**", "file:///docs/a#b", False, id="fragment"),
        pytest.param("file:///docs/**", "file:///docs/%61", False, id="needless encoding"),
        pytest.param("file:///docs/**", "file:///docs/%e2%82%ac", False, id="lower-case encoding"),
        pytest.param("file:///docs/*", "file:///docs/%E2%82%AC", True, id="proper encoding"),
        pytest.param("file:///docs/*", "file:///docs/a%2Fb", False, id="encoded slash in one segment"),
        pytest.param("file:///docs/**", "file:///docs/a%00", False, id="encoded NUL"),
        pytest.param("file:///docs/**", "file:///docs/a\\b", False, id="backslash"),
        pytest.param("file:///docs/**", "file:///docs/a\n", False, id="line feed"),
        pytest.param("file:///docs/**", "file:///docs/\u0430", False, id="outside ASCII"),
        pytest.param("db://t?id=*", "db://t?id=5", True, id="query"),
        pytest.param("db://*", "db://t?id=5", False, id="a wildcard never reaches into a query"),
    ],
)
def test_a_uri_matches_byte_for_byte_or_by_a_wildcard_when_it_has_one_spelling(pattern, uri, expected):
    assert globs.matches_uri(pattern, uri) is expected
    assert globs.uri_test([pattern], deny=False)(uri) is expected


@pytest.mark.parametrize(
    ("pattern", "method", "path", "expected"),
    [
        pytest.param("GET /repos/**", "GET", "/repos/a/b", True, id="below"),
        pytest.param("GET /repos/**", "POST", "/repos/a/b", False, id="another method"),
        pytest.param("GET /repos/**", "get", "/repos/a", False, id="lower-case method"),
        pytest.param("* /repos/*", "PATCH", "/repos/a", True, id="any method"),
        pytest.param("* /repos/*", "PA TCH", "/repos/a", False, id="a method that is none"),
        pytest.param("GET /repos/*/issues", "GET", "/repos/a/issues", True, id="wildcard in the middle"),
        pytest.param("GET /repos/*/issues", "GET", "/repos/a/b/issues", False, id="one segment only"),
        pytest.param("GET /**", "GET", "/a/../b", False, id="dot segments"),
        pytest.param("GET /p/**", "GET", "/p/a;%2F..%2F..%2Fb", False, id="dot segments within a parameter"),
        pytest.param("GET /p/**", "GET", "/p/a;x%2F..;y%2Fb", False, id="dot segments between parameters"),
        pytest.param("GET /p/**", "GET", "/p/a;x=1/b", True, id="a parameter"),
        pytest.param("GET /**", "GET", "//a", False, id="empty segment"),
        pytest.param("GET /**", "GET", "/%61", False, id="needless encoding"),
        pytest.param("GET /**", "GET", "/a?b=/x", False, id="a query is not a path"),
        pytest.param("GET /**", "GET", "a", False, id="relative"),
        pytest.param("GET /**", "GET", "https://evil.example/a", False, id="absolute"),
        pytest.param("GET /p/**", "GET", "/p/group%2Fproject", True, id="encoded slash below"),
        pytest.param("GET /p/*/x", "GET", "/p/group%2Fproject/x", False, id="encoded slash in one segment"),
        pytest.param("GET /p/group%2Fproject/x", "GET", "/p/group%2Fproject/x", True, id="encoded slash spelt out"),
        pytest.param("GET /", "GET", "/", True, id="root"),
    ],
)
def test_a_path_matches_by_method_and_canonical_path(pattern, method, path, expected):
    made = HttpPattern(*pattern.split(" ", 1))
    assert globs.matches_path(made, method, path) is expected
    assert globs.path_test([made], deny=False)(method, path) is expected


@pytest.mark.parametrize(
    ("pattern", "method", "path"),
    [
        pytest.param("GET /admin/**", "GET", "/admin%2Fusers", id="encoded slash"),
        pytest.param("DELETE /admin", "DELETE", "/admin/", id="trailing slash"),
        pytest.param("GET /admin", "GET", "/admin;x=1", id="parameter"),
        pytest.param("GET /admin/x", "GET", "/admin;a/x;b/", id="parameters and a trailing slash"),
        pytest.param("GET /admin/x", "GET", "/admin;a%2Fx", id="an encoded slash that ends a parameter"),
        pytest.param("GET /admin/x", "GET", "/admin%3Ba/x", id="an encoded parameter"),
        pytest.param("GET /admin/**", "GET", "/Admin/x", id="another case"),
        pytest.param("GET /Admin/*", "GET", "/%61dmin/x", id="another case, encoded"),
        pytest.param("GET /admin", "HEAD", "/admin", id="HEAD for GET"),
        pytest.param("GET /admin", "get", "/admin", id="lower-case method"),
        pytest.param("GET /caf\u00e9", "GET", "/caf%C3%A9", id="encoded letters"),
    ],
)
def test_a_deny_covers_every_spelling_of_its_path(pattern, method, path):
    made = HttpPattern(*pattern.split(" ", 1))
    assert globs.denies_path(made, method, path)
    assert not globs.denies_path(made, method, "/other")


def test_a_deny_on_a_uri_covers_its_encoded_spelling_but_not_a_neighbour():
    assert globs.denies_uri("file:///secret/**", "file:///secret%2Fkey")
    assert globs.denies_uri("file:///secret/**", "file:///secret/../secret/key")
    assert not globs.denies_uri("file:///secret/**", "file:///secrets/key")


SEGMENTS = st.lists(st.sampled_from(["a", "b", "**", "*", "a*", "*b"]), min_size=1, max_size=5)
PLACES = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=6)


@given(SEGMENTS, PLACES)
@settings(max_examples=500)
def test_matching_segments_agrees_with_a_plain_search_over_every_split(pattern, place):
    def one(glob, text):
        if not glob:
            return not text
        if glob[0] == "*":
            return any(one(glob[1:], text[n:]) for n in range(len(text) + 1))
        return text[:1] == glob[0] and one(glob[1:], text[1:])

    def walks(globs_left, left):
        if not globs_left:
            return not left
        if globs_left[0] == "**":
            if len(globs_left) == 1:
                return bool(left)  # `a/**` needs the slash after `a`
            return any(walks(globs_left[1:], left[n:]) for n in range(len(left) + 1))
        return bool(left) and one(globs_left[0], left[0]) and walks(globs_left[1:], left[1:])

    made = HttpPattern("GET", "/" + "/".join(pattern))
    path = "/" + "/".join(place)
    expected = walks(pattern, place)
    assert globs.matches_path(made, "GET", path) is expected
    assert globs.denies_path(made, "GET", path) is expected


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda: globs.matches("*a*a*a*a*a*a*b", "a" * 256), id="name"),
        pytest.param(lambda: globs.denies_name("*a*a*a*a*a*a*b", "a" * 100_000), id="denied name"),
        pytest.param(lambda: globs.matches_path(HttpPattern("GET", "/**/a/**/a/**/b"), "GET", "/a" * 4_000), id="path"),
        pytest.param(lambda: globs.denies_uri("**/a*a*a/**/a/**/b", "x:" + "/a" * 50_000), id="denied URI"),
        pytest.param(lambda: globs.denies_uri("**/*a*a*a*b", "x:/" + "a" * 100_000), id="one long segment"),
        pytest.param(lambda: globs.matches_uri("x:/**", "x:/" + "%2E" * 30_000), id="long encoded URI"),
    ],
)
def test_no_name_makes_a_pattern_backtrack(attempt):
    start = time.process_time()
    assert not attempt()
    assert time.process_time() - start < 0.25


def test_a_template_shows_where_an_expansion_could_match_and_hides_only_where_none_can():
    assert globs.may_expand_to("file:///docs/**", "file:///docs/{path}")
    assert globs.may_expand_to("file:///docs/a/b", "file:///{+path}")
    assert not globs.may_expand_to("file:///docs/**", "file:///etc/{name}")
    assert globs.covers_expansions("file:///etc/**", "file:///etc/{name}")
    assert not globs.covers_expansions("file:///etc/**", "file:///{+path}")
    assert not globs.covers_expansions("file:///etc/a", "file:///etc/{name}")
