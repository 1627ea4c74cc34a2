"""GitLab CI (GitLab's "OpenID Connect (OIDC) Authentication Using ID Tokens").

A job names its tokens and their audiences under `id_tokens:`. Worth matching: `project_id`, `namespace_id`,
`ref` with `ref_type`, `ref_protected` (the string `"true"`), `environment`, `environment_protected`,
`pipeline_source`, `runner_environment`. Ids are strings, except `runner_id`.

In a merge request pipeline from a fork the `project_*` claims name the fork.
A self-managed instance is its own issuer: give `issuer` beside the preset.
"""

from coatcheck.identity.presets.preset import Preset

GITLAB = Preset(
    name="gitlab",
    issuer="https://gitlab.com",
    algorithms=("RS256",),
    mutable_claims=("ci_config_ref_uri", "namespace_path", "project_path", "sub", "user_email", "user_login"),
    run_claims=("pipeline_id", "job_id", "sha"),
)
