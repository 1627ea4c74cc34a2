"""`coatcheck identities explain` of a SAML assertion: whose it is, told without using it up."""

import base64
from datetime import UTC, datetime

import pytest

pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")

from assertions import ISSUER, Draft, Idp
from click.testing import CliRunner

from coatcheck_cli.identities import identities

AUDIENCE = "https://gateway.acme.dev"
POLICY = """
coatcheck: 1
gateway: {{audience: {audience}}}
issuers:
  adfs: {{issuer: {issuer}, saml: {{certificate: idp.pem}}, groups: roles}}
identities:
  bot: {{issuer: adfs, claims: {{sub: shop-ci}}}}
servers:
  shop: {{url: "https://shop.acme.dev/mcp"}}
rules:
  - {{id: everything, who: [any], server: shop, tools: ["*"], effect: allow}}
"""


@pytest.fixture
def idp():
    return Idp(now=datetime.now(UTC))


@pytest.fixture
def explain(idp, tmp_path):
    idp.write(tmp_path / "idp.pem")
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(audience=AUDIENCE, issuer=ISSUER))
    return lambda shown: CliRunner().invoke(identities, ["explain", "--policy", str(policy)], input=shown)


def draft(**changes):
    return Draft(now=datetime.now(UTC), **({"audience": AUDIENCE, "recipient": AUDIENCE} | changes))


@pytest.mark.parametrize("form", ["xml", "base64url"])
def test_an_assertion_is_explained_in_either_form_as_often_as_one_likes(explain, idp, form):
    xml = idp.sign(draft(attributes={"roles": ["dev"]}).xml)
    for _ in range(2):
        result = explain(xml if form == "xml" else base64.urlsafe_b64encode(xml).rstrip(b"="))
        assert result.exit_code == 0, result.exception
        assert "identity: bot, groups dev\n" in result.output
        assert "it counts once" in result.output
        assert "SignatureValue" not in result.output


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"audience": "https://else.example"}, "wrong-audience", id="another audience"),
        pytest.param({"name_id": "<saml:NameID>else</saml:NameID>"}, "unknown-identity", id="nobody"),
        pytest.param({"signature": ""}, "token-unsigned", id="unsigned"),
    ],
)
def test_an_assertion_that_the_gateway_would_refuse_says_why_and_fails(explain, idp, changes, reason):
    made = draft(**changes)
    result = explain(idp.sign(made.xml) if made.signature else made.xml)
    assert (result.exit_code, str(result.exception).partition(":")[0]) == (1, reason)
