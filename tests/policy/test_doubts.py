import pytest

from coatcheck.policy.doubts import doubts


def said(policy):
    return [f"{one.where}: {one.what}" for one in doubts(policy)]


def test_a_careful_policy_raises_no_doubt_about_its_identities_and_rules(draft):
    assert all(one.startswith("server ") for one in said(draft.load()))


def test_what_is_likely_a_mistake_is_named(draft):
    text = draft.edited('{repository_id: "74627617", ref: refs/heads/main}', "{repository: acme/shop}")
    text = draft.edited("    expires: 2027-06-30\n", "", text)
    text = draft.edited("    effect: deny\n", "    effect: deny\n    mode: shadow\n", text)
    rules = '  - {id: open, who: [any], server: warehouse, tools: ["*"], effect: allow}\n'
    text = draft.edited("masks:\n", rules + "masks:\n", text)
    found = "\n".join(said(draft.load(text)))
    assert "identity shop-ci: it is told by repository alone" in found
    assert "identity shop-ci: it never expires" in found
    assert "rule no-secrets-api is a shadow" in found
    assert "rule open lets anyone call every tool" in found
    assert "server prices: no rule is about it" in found


@pytest.mark.parametrize(
    ("who", "reviewers", "doubted"),
    [
        ("[shop-ci]", "[desk]", True),
        ("[any]", "[desk]", True),
        ("[shop-ci]", "[desk, sre]", False),
        ("[group:auditors]", "[desk]", False),
    ],
)
def test_two_approvals_of_the_same_that_no_reviewer_may_both_give_are_named(draft, who, reviewers, doubted):
    rule = f'  - {{id: wide, who: {who}, server: github, tools: ["*"], effect: approve, reviewers: {reviewers}}}\n'
    found = said(draft.load(draft.edited("masks:\n", rule + "masks:\n")))
    assert any("rule ci-merges: rule wide holds all of it too" in one for one in found) == doubted


CLAIMS = '{repository_id: "74627617", ref: refs/heads/main}'


@pytest.mark.parametrize(
    ("claims", "doubted"),
    [
        ("{repository: acme/shop}", True),
        ("{repository: acme/shop, ref: refs/heads/main}", True),
        ("{repository_owner: acme, environment: production}", True),
        ('{sub: "repo:acme/shop:*"}', True),
        ("{ref: refs/heads/main}", True),
        ('{repository_id: "7*"}', True),
        ('{repository_id: ["74627617", "8*"]}', True),
        ('{repository_id: "74627617"}', False),
        ("{repository_id: 74627617}", False),
        ('{repository: acme/shop, repository_owner_id: "12"}', False),
        ('{sub: "repo:acme@12/shop@74627617:*"}', False),
    ],
)
def test_an_identity_of_github_that_is_told_by_names_alone_is_named(draft, claims, doubted):
    found = said(draft.load(draft.edited(CLAIMS, claims)))
    assert any("someone else can take over" in one for one in found) == doubted


def test_a_reviewer_that_is_told_by_names_alone_is_named(draft):
    text = draft.edited("sre: {issuer: corp, claims: {groups: sre}}", "sre: {issuer: github, claims: {actor: ada}}")
    assert "reviewer sre: it is told by actor alone, which someone else can take over" in said(draft.load(text))


@pytest.mark.parametrize(
    ("claims", "doubted"),
    [
        ('{repository_id: "74627617"}', True),
        (CLAIMS, True),
        ('{repository_id: "74627617", actor_id: "7"}', False),
        ('{repository_id: "12"}', False),
    ],
)
def test_a_reviewer_that_a_caller_is_too_is_named(draft, claims, doubted):
    reviewer = f"sre: {{issuer: github, claims: {claims}}}"
    found = said(draft.load(draft.edited("sre: {issuer: corp, claims: {groups: sre}}", reviewer)))
    assert any("every token of identity shop-ci is this reviewer's" in one for one in found) == doubted


@pytest.mark.parametrize(
    ("twin", "doubted"),
    [
        ('{repository_id: "74627617"}', True),
        ('{repository_id: "74627617", environment: production}', True),
        ('{repository_id: "74627617", ref: "refs/heads/*"}', True),
        ('{repository_id: "74627617", ref: [refs/heads/dev, refs/heads/main]}', True),
        ('{repository_owner_id: "12"}', True),
        ('{repository_id: "74627617", ref: refs/heads/dev}', False),
        ('{repository_id: "74627617", ref: "refs/tags/*"}', False),
        ("{repository_id: 74627617}", False),
    ],
)
def test_two_identities_that_one_token_could_be_are_named(draft, twin, doubted):
    more = f"  twin:\n    issuer: github\n    claims: {twin}\n"
    found = said(draft.load(draft.edited("reviewers:\n", more + "reviewers:\n")))
    assert ("identity twin: a token can be both this and identity shop-ci, and is then refused" in found) == doubted


def test_an_identity_that_no_rule_names_and_a_policy_that_permits_nothing_are_named(draft):
    cut = draft.text.index("rules:")
    found = said(draft.load(draft.text[:cut]))
    assert ": no rule permits anything: every call is denied" in found
    assert "identity shop-ci: no rule names it" in found


def test_a_credential_in_the_clear_is_named(draft):
    text = draft.edited("https://api.githubcopilot.com/mcp/", "http://api.internal/mcp/")
    assert "server github: its credential crosses the network in the clear" in said(draft.load(text))
