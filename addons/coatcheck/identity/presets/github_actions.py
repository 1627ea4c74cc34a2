"""GitHub Actions (GitHub's "OpenID Connect reference"; as of November 2026).

A job with `permissions: id-token: write` asks for a token with an audience of its choice; it lives five
minutes and can be asked for again while the job runs. Worth matching: `repository_id`, `repository_owner_id`,
`ref`, `environment`, `event_name`, `job_workflow_ref`, `runner_environment`. Ids are strings.

Every repository on GitHub gets tokens of this one issuer, and names (`repository`, `repository_owner`, `actor`,
`workflow_ref`) can be given up and taken by someone else: match an id beside them. `sub` is customisable. It holds
names, `repo:ORG/REPO:…`; for repositories made, renamed or transferred after 2026-07-15 ids too,
`repo:ORG@ID/REPO@ID:…`. A colon in one of its values is written `%3A`.
Enterprise Server and data-residency hosts have issuers of their own: give `issuer` beside the preset.
"""

from coatcheck.identity.presets.preset import NUMBER, Preset

GITHUB_ACTIONS = Preset(
    name="github-actions",
    issuer="https://token.actions.githubusercontent.com",
    algorithms=("RS256",),
    pins={
        "repository_id": NUMBER,
        "repository_owner_id": NUMBER,
        "enterprise_id": NUMBER,
        "sub": r"repo:[^@/:*]+@[0-9]+/.*",
    },
    run_claims=("run_id", "run_attempt", "check_run_id", "sha"),
)
