import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coatcheck.errors import PolicyError
from coatcheck.mcp.call import Call
from coatcheck.policy.load import load_policy
from coatcheck.policy.model import Policy
from coatcheck.sessions.recorder import SessionKey, SessionRecorder

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


@pytest.fixture
def record(tmp_path):
    """Records requests of one caller to one server as a session: (calls, HTTP method, body, decision, rules) each."""

    def made(*requests, caller="shop-ci", server="github", issuer="github"):
        folder = tmp_path / "state" / "sessions"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.parent.chmod(0o700)
        before = set(folder.glob("*/*.jsonl"))
        recorder = SessionRecorder(folder, clock=lambda: datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
        recorder.start()
        key = SessionKey(caller, "a1", server)
        for calls, method, body, decision, rules in requests:
            one = recorder.begin(key, issuer=issuer, subject="repo", url="https://x.test/", policy="ab" * 32)
            one.request(method, "https://x.test/a?q=1", [], body, calls, decision, list(rules), approval=None)
            one.end("answered")
        recorder.close()
        (new,) = set(folder.glob("*/*.jsonl")) - before
        return new

    return made


def tool_request(name, arguments, decision="allow", rules=()):
    """A recorded `tools/call`, as `record` takes it."""
    params = {"name": name, "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, "_meta": {"a": 1}}})
    return [Call("mcp", "tools/call", name, arguments, params, 1)], "POST", body.encode(), decision, rules


@pytest.fixture
def asks():
    return tool_request
