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


def test_an_identity_that_no_rule_names_and_a_policy_that_permits_nothing_are_named(draft):
    cut = draft.text.index("rules:")
    found = said(draft.load(draft.text[:cut]))
    assert ": no rule permits anything: every call is denied" in found
    assert "identity shop-ci: no rule names it" in found


def test_a_credential_in_the_clear_is_named(draft):
    text = draft.edited("https://api.githubcopilot.com/mcp/", "http://api.internal/mcp/")
    assert "server github: its credential crosses the network in the clear" in said(draft.load(text))
