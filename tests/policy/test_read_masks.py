import pytest


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        pytest.param("server: warehouse", "server: warehose", "unknown server 'warehose'", id="server"),
        pytest.param("server: warehouse", "server: packages", "is a tunnel", id="tunnel"),
        pytest.param("[email, credit-card, iban]", "[e-mail]", "detect cannot be 'e-mail'", id="detector"),
        pytest.param('"$..ssn"', '"ssn"', "not a path", id="path"),
        pytest.param("as: partial", "as: hide", "as cannot be 'hide'", id="form"),
        pytest.param("    as: partial", "    form: partial", "unknown key 'form'", id="key"),
        pytest.param(
            '    detect: [email, credit-card, iban]\n    fields: ["$..ssn"]\n',
            "",
            "names what to take out",
            id="nothing",
        ),
    ],
)
def test_a_mask_that_would_find_nothing_is_refused(draft, old, new, what):
    masks = draft.text.index("masks:")
    found = draft.faults(draft.text[:masks] + draft.edited(old, new, draft.text[masks:]))
    assert any(what in said for _, said, _ in found), found
