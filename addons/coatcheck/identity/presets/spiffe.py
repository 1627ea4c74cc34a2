"""SPIFFE JWT-SVIDs (SPIFFE's "JWT-SVID" standard; as of November 2026).

A workload asks its Workload API for one, with an audience of its choice. Worth matching: `sub`, the SPIFFE ID, such as
`spiffe://prod.example/ns/shop/sa/nightly`; a trust domain is one operator's, and ids in it are given by that operator.

The standard asks for `sub`, `aud` and `exp` only. The gateway needs `iss` too, as keys are looked up under it: have the
server set it (SPIRE: `jwt_issuer`, the URL of its OIDC discovery provider); a bundle can be
`jwks_file` too. `kid` is optional there: a token
without one is good while the trust domain publishes one key of its algorithm; SPIRE writes a `kid`.
"""

from coatcheck.identity.presets.preset import Preset

SPIFFE = Preset(
    name="spiffe",
    issuer=None,
    algorithms=("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"),
    run_claims=("jti",),
)
