"""GitLab CI (GitLab's "OpenID Connect (OIDC) Authentication Using ID Tokens"; as of November 2026).

A job names its tokens and their audiences under `id_tokens:`; they live as long as the job may. Worth matching:
`project_id`, `namespace_id`, `ref` with `ref_type`, `ref_protected` (the string `"true"`), `environment`,
`environment_protected`, `pipeline_source`, `runner_environment`. Ids are strings, except `runner_id`.

Every project of an instance gets tokens of one issuer, and paths (`project_path`, `namespace_path`, the default
`sub`: `project_path:GROUP/PROJECT:ref_type:branch:ref:main`) can change hands: match an id beside them.
In a merge request pipeline from a fork the `project_*` claims name the fork.
A self-managed instance is its own issuer: give `issuer` beside the preset.
"""

from coatcheck.identity.presets.preset import NUMBER, Preset

GITLAB = Preset(
    name="gitlab",
    issuer="https://gitlab.com",
    algorithms=("RS256",),
    pins={"project_id": NUMBER, "namespace_id": NUMBER},
    run_claims=("pipeline_id", "job_id", "sha"),
)
