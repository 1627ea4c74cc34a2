import pytest

from coatcheck.policy.families import families, is_expressible


@pytest.mark.parametrize(
    ("aspect", "names", "others", "expected"),
    [
        ("tools", ["get_a", "get_b", "get_c", "drop"], [], {"get_*": ("get_a", "get_b", "get_c")}),
        ("tools", ["get_a", "get_b"], [], {}),
        ("tools", ["get_a", "get_b", "get_c"], ["get_d"], {}),
        ("tools", ["get_a", "get_b", "get_c"], ["get_d/e"], {}),
        ("tools", ["get_a", "get_b", "get_c"], ["forget_d"], {"get_*": ("get_a", "get_b", "get_c")}),
        ("tools", ["geta", "getb", "getc"], [], {}),
        ("tools", ["get_a", "get_b", "get_c/d"], [], {}),
        ("tools", ["a-b", "a-c", "a-d", "a_e"], [], {"a-*": ("a-b", "a-c", "a-d")}),
        ("prompts", ["a.b", "a.c", "a.d"], [], {"a.*": ("a.b", "a.c", "a.d")}),
        ("methods", ["tasks/a", "tasks/b", "tasks/c"], [], {}),
        (
            "http",
            ["GET /v1/a", "GET /v1/b", "GET /v1/c"],
            ["POST /v1/a", "GET /v1/a/b"],
            {"GET /v1/*": ("GET /v1/a", "GET /v1/b", "GET /v1/c")},
        ),
        ("http", ["GET /v1/a", "GET /v1/b", "GET /v1/c"], ["HEAD /v1/d"], {}),
        ("http", ["GET /v1/a", "GET /v1/b", "GET /v1/c"], ["GET /v1/%64"], {}),
        ("http", ["GET /a", "GET /b", "GET /c"], [], {}),
        ("http", ["GET /v1/a", "POST /v1/b", "PUT /v1/c"], [], {}),
        (
            "resources",
            ["file:///d/a", "file:///d/b", "file:///d/c"],
            [],
            {"file:///d/*": ("file:///d/a", "file:///d/b", "file:///d/c")},
        ),
        ("resources", ["file:///a", "file:///b", "file:///c"], [], {}),
        ("resources", ["file:///d/a", "file:///d/b", "file:///d/c"], ["file:///d/x"], {}),
    ],
)
def test_a_family_has_three_names_one_glob_and_nothing_that_was_not_allowed(aspect, names, others, expected):
    assert families(aspect, names, others) == expected


@pytest.mark.parametrize(
    ("aspect", "name", "expected"),
    [
        ("tools", "get_a", True),
        ("tools", "a b", True),
        ("tools", "a*", False),
        ("tools", "a?", False),
        ("tools", "é", False),
        ("resources", "file:///a", True),
        ("resources", "file:///a*", False),
        ("resources", "file:///a b", False),
        ("http", "GET /a", True),
        ("http", "GET /a*", False),
        ("http", "get /a", False),
        ("http", "GET /../a", False),
        ("methods", "tasks/get", True),
        ("methods", "tools/call", False),
    ],
)
def test_a_name_can_be_said_where_a_pattern_means_it_and_nothing_else(aspect, name, expected):
    assert is_expressible(aspect, name) is expected
