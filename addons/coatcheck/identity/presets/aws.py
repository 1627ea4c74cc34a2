"""AWS: roles by STS GetWebIdentityToken (AWS' IAM User Guide, "Understanding token claims"; as of November 2026).

An account that has enabled outbound web identity federation signs tokens for its principals, for an audience of their
choice. Worth matching: `sub` (the role's ARN), and inside the object claim `https://sts.amazonaws.com/`: its
`aws_account`, `org_id`, `ou_path`, `principal_tags`, `request_tags`, in policy such as
`https://sts.amazonaws.com/.aws_account`. Request tags are what the caller asked for, not what AWS knows of it.

Each account is its own issuer, `https://ID.tokens.sts.global.api.aws`: `aws iam
get-outbound-web-identity-federation-info` says which. The signature is RS256 or ES384, as the caller asks.
"""

from coatcheck.identity.presets.preset import Preset

AWS = Preset(
    name="aws",
    issuer=None,
    algorithms=("ES384", "RS256"),
    run_claims=("jti",),
)
