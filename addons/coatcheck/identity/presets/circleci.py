"""CircleCI (CircleCI's "Using OpenID Connect tokens in jobs"; as of November 2026).

A job has one in `CIRCLE_OIDC_TOKEN_V2`, for the organisation's id as audience; `circleci run oidc get` gets one for
another. It lives an hour. Worth matching: `oidc.circleci.com/project-id`, `oidc.circleci.com/context-ids` (a list),
`oidc.circleci.com/vcs-ref`, `oidc.circleci.com/vcs-origin`, `oidc.circleci.com/ssh-rerun` (true or false). `sub` is
`org/ORG_ID/project/PROJECT_ID/user/USER_ID`; in V2 the ref can follow.

Each organisation is its own issuer, `https://oidc.circleci.com/org/ORG_ID`, so its tokens are never another's.
"""

from coatcheck.identity.presets.preset import Preset

CIRCLECI = Preset(
    name="circleci",
    issuer=None,
    algorithms=("RS256",),
    run_claims=("oidc.circleci.com/project-id", "oidc.circleci.com/vcs-ref"),
)
