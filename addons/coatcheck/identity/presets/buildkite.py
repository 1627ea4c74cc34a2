"""Buildkite (Buildkite's "OIDC in Buildkite Pipelines", `buildkite-agent oidc request-token`; as of November 2026).

A job asks its agent for a token with an audience of its choice; it lives five minutes unless asked otherwise
(`--lifetime`). Worth matching: `organization_id`, `pipeline_id`, `build_branch`, `build_tag`, `step_key`,
`runner_environment`. `sub` is `organization:ORG:pipeline:PIPELINE:ref:REF:commit:COMMIT:step:STEP`.

Every organisation gets tokens of this one issuer, and slugs (`organization_slug`, `pipeline_slug`, `sub`) can change
hands: match an id. The ids are in the token where the job asks for them (`--claim organization_id,pipeline_id`); with
`--subject-claim pipeline_id` the id is also `sub`.
"""

from coatcheck.identity.presets.preset import UUID, Preset

BUILDKITE = Preset(
    name="buildkite",
    issuer="https://agent.buildkite.com",
    algorithms=("RS256",),
    pins={"organization_id": UUID, "pipeline_id": UUID, "cluster_id": UUID, "sub": UUID},
    run_claims=("build_number", "build_commit", "job_id"),
)
