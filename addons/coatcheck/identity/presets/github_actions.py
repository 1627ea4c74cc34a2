"""GitHub Actions (GitHub's "OpenID Connect reference").

A job with `permissions: id-token: write` asks for a token with an audience of its choice; it lives five
minutes and can be asked for again while the job runs. Worth matching: `repository_id`, `repository_owner_id`,
`ref`, `environment`, `event_name`, `job_workflow_ref`, `runner_environment`. Ids are strings.

`sub` is customisable, and repositories made or renamed after 2026-07-15 have ids in it; match claims instead.
Enterprise Server and data-residency hosts have issuers of their own: give `issuer` beside the preset.
"""

from coatcheck.identity.presets.preset import Preset

GITHUB_ACTIONS = Preset(
    name="github-actions",
    issuer="https://token.actions.githubusercontent.com",
    algorithms=("RS256",),
    mutable_claims=(
        "actor",
        "enterprise",
        "job_workflow_ref",
        "repository",
        "repository_owner",
        "sub",
        "workflow",
        "workflow_ref",
    ),
    run_claims=("run_id", "run_attempt", "check_run_id", "sha"),
)
