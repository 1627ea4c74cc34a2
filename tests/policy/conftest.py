from pathlib import Path

import pytest

from coatcheck.errors import PolicyError
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy

TEXT = """\
coatcheck: 1
gateway:
  audience: https://gateway.example.com
  hold: 30s
issuers:
  github: {preset: github-actions}
  corp:
    issuer: https://idp.example.com/realms/bots
    algorithms: [ES256, RS256]
    groups: realm_access.roles
    leeway: 10s
identities:
  shop-ci:
    issuer: github
    claims: {repository_id: "74627617", ref: refs/heads/main}
    groups: [ci]
    owner: platform@example.com
    expires: 2027-06-30
reviewers:
  sre: {issuer: corp, claims: {groups: sre}}
  desk: {local: [root, oncall]}
  web: {mitmweb: console}
servers:
  github:
    url: https://api.githubcopilot.com/mcp/
    credential: github-pat
  packages: {url: https://packages.example.com, tunnel: true}
  warehouse:
    url: https://mcp.warehouse.internal:8443/mcp
    ca: ca.pem
    addresses: [10.20.0.0/16, ::1/128]
  prices: {url: https://prices.example.com/v2}
rules:
  - id: ci-reads
    who: [group:ci]
    server: github
    tools: ["get_*", "list_*", "search_*"]
    effect: allow
  - id: ci-merges
    who: [shop-ci]
    server: github
    tools: [merge_pull_request]
    when: args.owner + "/" + args.repo == caller.claims.repository
    effect: approve
    reviewers: [sre]
    quorum: 2
    expires: 15m
    message: "Merging from CI needs an SRE."
  - id: no-secrets-api
    who: [any]
    server: github
    tools: ["*_secret*"]
    effect: deny
masks:
  - id: personal-data
    server: warehouse
    detect: [email, credit-card, iban]
    fields: ["$..ssn"]
    as: partial
"""


class Draft:
    """A whole policy as text, to be changed in one place and loaded."""

    text = TEXT

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ca.pem").write_text("a certificate")

    def edited(self, old: str, new: str, text: str = TEXT) -> str:
        """The text with the first `old` replaced by `new`."""
        assert old in text
        return text.replace(old, new, 1)

    def load(self, text: str = TEXT, **more) -> Policy:
        """The policy that the text makes."""
        file = self.folder / "p.yaml"
        file.write_text(text)
        return load_policy(file, **more)

    def faults(self, text: str, **more) -> list[tuple[str, str, str]]:
        """Where, what and hint of every problem, the folder's name left out."""
        with pytest.raises(PolicyError) as caught:
            self.load(text, **more)
        return [
            (problem.where.removeprefix(f"{self.folder}/"), problem.what, problem.hint or "")
            for problem in caught.value.problems
        ]


@pytest.fixture
def draft(tmp_path):
    return Draft(tmp_path)
