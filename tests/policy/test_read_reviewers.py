from coatcheck.policy.model import Reviewer


def test_a_reviewer_has_one_way_of_proof(draft):
    assert draft.load().reviewers == {
        "sre": Reviewer("sre", issuer="corp", claims={"groups": "sre"}),
        "desk": Reviewer("desk", local=("root", "oncall")),
        "web": Reviewer("web", mitmweb="console"),
    }


def test_a_reviewer_without_a_proof_of_its_own_is_refused(draft):
    for wrong in ("{}", "{local: []}", "{mitmweb: 5}", "{mitmweb: a, local: [b]}", "{claims: {a: b}}", "[oncall]"):
        assert draft.faults(draft.edited("{local: [root, oncall]}", wrong))
