from datetime import timedelta

import pytest

CORP = "    issuer: https://idp.example.com/realms/bots\n    algorithms: [ES256, RS256]\n"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        pytest.param("github-actions", "github", "preset cannot be 'github'", id="unknown preset"),
        pytest.param("algorithms: [ES256, RS256]", "algorithms: [HS256]", "cannot be 'HS256'", id="symmetric"),
        pytest.param("algorithms: [ES256, RS256]", "algorithms: [none]", "cannot be 'none'", id="none"),
        pytest.param("    algorithms: [ES256, RS256]\n", "", "missing key 'algorithms'", id="no algorithms"),
        pytest.param("    issuer: https://idp.example.com/realms/bots\n", "", "missing key 'issuer'", id="no issuer"),
        pytest.param("https://idp.example.com/realms", "http://idp.example.com/realms", "not https", id="http"),
        pytest.param("leeway: 10s", "leeway: 61s", "out of range", id="leeway"),
        pytest.param("leeway: 10s", "max_stale: 8d", "out of range", id="keys too old"),
        pytest.param("leeway: 10s", "max_stale: 1s", "out of range", id="keys too young"),
        pytest.param("leeway: 10s", "typ: oauth-id-jag+jwt", "typ cannot be", id="type of another use"),
        pytest.param("leeway: 10s", "addresses: [10.20.0.1]", "not an address range", id="addresses"),
        pytest.param("leeway: 10s", "one_time: yes", "true or false", id="one time, by another word"),
        pytest.param("leeway: 10s", "addresses: []", "an empty list", id="no addresses"),
        pytest.param(
            "leeway: 10s",
            "jwks_file: ca.pem\n    addresses: [10.0.0.0/8]",
            "'addresses' where nothing is fetched",
            id="addresses of a file",
        ),
        pytest.param("leeway: 10s", "jwks_file: keys.json", "no such file: keys.json", id="missing key file"),
        pytest.param("leeway: 10s", "jwks_uri: http://idp.example.com/k", "not https", id="keys over http"),
        pytest.param(
            "leeway: 10s",
            "jwks_uri: https://a.example/k\n    jwks_file: ca.pem",
            "both 'jwks_uri'",
            id="two key sources",
        ),
        pytest.param(
            "https://idp.example.com/realms/bots",
            "https://token.actions.githubusercontent.com",
            "same URL as 'github'",
            id="same issuer twice",
        ),
        pytest.param(CORP, "    preset: kubernetes\n", "missing key 'issuer'", id="preset without a URL of its own"),
        pytest.param("issuer: github\n", "issuer: gitlab\n", "unknown issuer 'gitlab'", id="unknown issuer"),
        pytest.param('{repository_id: "74627617", ref: refs/heads/main}', "{}", "claims is empty", id="no claims"),
        pytest.param('{repository_id: "74627617", ref: refs/heads/main}', "x", "a mapping, not text", id="claims text"),
        pytest.param('{repository_id: "74627617", ref: refs/heads/main}', '{sub: "*"}', "match every", id="any token"),
        pytest.param('"74627617"', "1.5", "text, not a number", id="fraction as claim"),
        pytest.param('"74627617"', "null", "text, not nothing", id="null as claim"),
        pytest.param('"74627617"', "[]", "an empty list", id="empty list as claim"),
        pytest.param('"74627617"', "{a: b}", "text, not a mapping", id="mapping as claim"),
        pytest.param("  shop-ci:\n", "  any:\n", "not a name: 'any'", id="reserved name"),
        pytest.param("  shop-ci:\n", "  group:ci:\n", "not a name: 'group:ci'", id="group as name"),
        pytest.param("{local: [root, oncall]}", "{}", "0 ways of proof", id="no proof"),
        pytest.param("{local: [root, oncall]}", "{local: [a], mitmweb: b}", "2 ways of proof", id="two proofs"),
        pytest.param("claims: {groups: sre}", "local: [a]", "2 ways of proof", id="half a token and an account"),
        pytest.param(", claims: {groups: sre}", "", "missing key 'claims'", id="issuer without claims"),
        pytest.param("sre: {issuer: corp", "sre: {issuer: crop", "unknown issuer 'crop'", id="reviewer's issuer"),
    ],
)
def test_who_is_believed_must_be_told_apart(draft, old, new, what):
    found = draft.faults(draft.edited(old, new))
    assert any(what in said for _, said, _ in found), found


def test_an_issuer_says_where_its_keys_are_how_old_they_may_be_and_what_its_tokens_are_typed(draft):
    more = "leeway: 10s\n    typ: at+jwt\n    max_stale: 2h\n    addresses: [10.20.0.0/16]"
    corp = draft.load(draft.edited("leeway: 10s", more)).issuers["corp"]
    assert (corp.typ, corp.max_stale, list(map(str, corp.addresses))) == (
        "at+jwt",
        timedelta(hours=2),
        ["10.20.0.0/16"],
    )
    plain = draft.load().issuers["corp"]
    assert (plain.typ, plain.max_stale, plain.addresses) == (None, timedelta(hours=24), ())


def test_two_identities_of_the_same_claims_are_refused(draft):
    twin = '  twin:\n    issuer: github\n    claims: {ref: refs/heads/main, repository_id: "74627617"}\n'
    found = draft.faults(draft.edited("reviewers:\n", twin + "reviewers:\n"))
    assert any("has the issuer and claims of 'shop-ci'" in said for _, said, _ in found)
    other = twin.replace("main", "release")
    assert "twin" in draft.load(draft.edited("reviewers:\n", other + "reviewers:\n")).identities


def test_a_claim_may_be_text_a_number_a_boolean_or_a_list(draft):
    text = draft.edited(
        '{repository_id: "74627617", ref: refs/heads/main}', "{a: x*, b: 5, c: true, d: [e, 6, false], f.g: h}"
    )
    claims = draft.load(text).identities["shop-ci"].claims
    assert claims == {"a": "x*", "b": 5, "c": True, "d": ("e", 6, False), "f.g": "h"}


def test_no_value_of_a_claim_or_token_is_needed_in_a_message(draft):
    text = draft.edited('"74627617"', '["a-secret-looking-value", 1.5]')
    assert not any("a-secret-looking-value" in said + hint for _, said, hint in draft.faults(text))


def test_an_issuers_tokens_may_be_good_for_one_exchange(draft):
    assert draft.load().issuers["corp"].one_time is False
    assert draft.load(draft.edited("leeway: 10s", "one_time: true")).issuers["corp"].one_time is True
