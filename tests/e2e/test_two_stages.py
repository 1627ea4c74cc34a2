"""Two stages of one pipeline are two identities: the plan reads, the release writes, the records tell them apart."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from coatcheck.journal.read import records
from coatcheck.sessions.lines import SessionLine, parse
from story.cast import AUDIENCE, REPOSITORY_ID, Cast, Outcome
from story.processes import Gateway

pytestmark = pytest.mark.e2e

WORKFLOW = "acme/shop/.github/workflows/{}.yml@refs/heads/main"
POLICY = """\
coatcheck: 1
gateway: {{audience: {audience}}}
issuers:
  ci: {{issuer: {issuer}, algorithms: [ES256]}}
identities:
  shop-plan:
    issuer: ci
    claims: {{repository_id: "{repository}", environment: plan, job_workflow_ref: "{plan}"}}
    groups: [pipeline]
  shop-release:
    issuer: ci
    claims: {{repository_id: "{repository}", environment: production, job_workflow_ref: "{release}"}}
    groups: [pipeline]
servers:
  shop: {{url: {shop}, ca: {ca}, addresses: [127.0.0.0/8, "::1/128"], credential: shop-key}}
rules:
  - {{id: pipeline-reads, who: [group:pipeline], server: shop, tools: ["get_*", "list_*"], effect: allow}}
  - {{id: release-refunds, who: [shop-release], server: shop, tools: [refund_order], effect: allow}}
"""


@dataclass(frozen=True)
class Pipeline:
    """One run of one pipeline: each stage is a job of its own, with a token of its own."""

    cast: Cast
    gateway: Gateway
    run_id: str = "4711"

    def claims(self, stage: str) -> dict[str, str]:
        environment = {"plan": "plan", "release": "production"}[stage]
        return {
            "repository": "acme/shop",
            "run_id": self.run_id,
            "environment": environment,
            "job_workflow_ref": WORKFLOW.format(stage),
        }

    def run(self, stage: str, *arguments: str, **claims: str) -> Outcome:
        """What a stage's own process printed: the official client, with nothing but its proxy and token."""
        token = self.cast.token(**(self.claims(stage) | claims))
        return self.cast.pipeline(*arguments, gateway=self.gateway, token=token)

    def ran(self, tool: str) -> int:
        """How often the shop really ran it."""
        return sum(call["tool"] == tool for call in self.cast.executed())

    def journal(self, kind: str) -> list[dict]:
        return [record for record in records(self.cast.state / "journal") if record["kind"] == kind]

    def recordings(self) -> list[SessionLine]:
        """The head of every recorded session."""
        found = [parse(path.open("rb").readline()) for path in (self.cast.state / "sessions").rglob("*.jsonl")]
        return [line for line in found if isinstance(line, SessionLine)]


@pytest.fixture(scope="module")
def pipeline(cast) -> Iterator[Pipeline]:
    cast.policy.write_text(
        POLICY.format(
            audience=AUDIENCE,
            issuer=cast.issuer.url,
            repository=REPOSITORY_ID,
            plan=WORKFLOW.format("plan"),
            release=WORKFLOW.format("release"),
            shop=cast.shop.url,
            ca=cast.authority.ca_pem,
        )
    )
    with cast.gateway() as gateway:
        yield Pipeline(cast, gateway)


REFUND = ("call", "refund_order", json.dumps({"order_id": "A-1001", "amount": 5}))
READ = ("call", "get_order", json.dumps({"order_id": "A-1001"}))


def test_the_read_stage_cannot_do_what_the_write_stage_can(pipeline) -> None:
    before = pipeline.ran("refund_order")
    denied = pipeline.run("plan", *REFUND)
    assert denied.error is not None, denied.text
    assert (denied.error["code"], denied.error["data"]["reason"]) == (4030, "policy-denied")
    assert pipeline.ran("refund_order") == before
    assert pipeline.run("release", *REFUND).result is not None
    assert pipeline.ran("refund_order") == before + 1
    for stage in ("plan", "release"):
        assert "A-1001" in pipeline.run(stage, *READ).text


def test_each_stage_is_shown_what_it_may_call(pipeline) -> None:
    plan, release = (set(pipeline.run(stage, "list").result) for stage in ("plan", "release"))
    assert "get_order" in plan
    assert release - plan == {"refund_order"}


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"job_workflow_ref": WORKFLOW.format("release")}, id="its workflow"),
        pytest.param({"environment": "production"}, id="its environment"),
    ],
)
def test_half_of_what_makes_the_write_stage_makes_nobody(pipeline, claims) -> None:
    before = pipeline.ran("refund_order")
    outcome = pipeline.run("plan", *REFUND, **claims)
    assert outcome.result is None
    assert "unknown-identity" in outcome.text
    assert pipeline.ran("refund_order") == before
    assert pipeline.run("release", *READ).result is not None


def test_the_journal_tells_the_stages_of_a_run_apart(pipeline) -> None:
    this = Pipeline(pipeline.cast, pipeline.gateway, run_id="4712")
    for stage in ("plan", "release"):
        assert this.run(stage, *READ).result is not None
        this.run(stage, *REFUND)
    sent = [record["caller"] for record in this.journal("request") if record["caller"]["run"]["run_id"] == "4712"]
    runs = {caller["name"]: caller["run"] for caller in sent}
    assert runs == {"shop-plan": this.claims("plan"), "shop-release": this.claims("release")}
    for caller in sent:
        claims = {"repository_id": REPOSITORY_ID} | this.claims(caller["name"].removeprefix("shop-"))
        assert caller["claims"] == {name: claims[name] for name in caller["claims"]}
        assert {"repository_id", "environment"} <= caller["claims"].keys()
    assert len({caller["token_id"] for caller in sent}) == len({caller["name"] for caller in sent}) * 2
    tools = {
        (record["caller"]["name"], call["name"])
        for record in this.journal("request")
        if record["caller"]["run"]["run_id"] == "4712"
        for call in record["calls"]
        if call["method"] == "tools/call"
    }
    assert tools == {
        ("shop-plan", "get_order"),
        ("shop-release", "get_order"),
        ("shop-release", "refund_order"),
    }
    (refused,) = [record for record in this.journal("refusal") if record["run"].get("run_id") == "4712"]
    assert (refused["caller"], refused["reason"]) == ("shop-plan", "policy-denied")
    assert refused["run"] == this.claims("plan")


def test_the_recordings_tell_the_stages_of_a_run_apart(pipeline) -> None:
    this = Pipeline(pipeline.cast, pipeline.gateway, run_id="4713")
    for stage in ("plan", "release"):
        assert this.run(stage, *READ).result is not None
    heads = {head.caller: head for head in this.recordings() if head.run.get("run_id") == "4713"}
    assert {name: head.run for name, head in heads.items()} == {
        "shop-plan": this.claims("plan"),
        "shop-release": this.claims("release"),
    }
    journaled = {record["session"] for record in this.journal("outcome")}
    assert {head.id for head in heads.values()} <= journaled
