"""Kubernetes service account tokens (Kubernetes' "Managing Service Accounts", bound tokens; as of November 2026).

A pod gets one through a projected volume with `audience:` set; the kubelet renews the file, so read it anew for
each use. Worth matching: `sub` (`system:serviceaccount:NAMESPACE:NAME`), or inside the object claim
`kubernetes.io`: `kubernetes.io.namespace`, `kubernetes.io.serviceaccount.name`, `kubernetes.io.serviceaccount.uid`.
Only the `uid` tells an account from a later one of the same name.

Each cluster is its own issuer, with its own algorithm. A cluster's discovery document often asks for a login:
give `jwks_uri` or `jwks_file` then (`kubectl get --raw /openid/v1/jwks`). The header has no `typ`.
"""

from coatcheck.identity.presets.preset import Preset

KUBERNETES = Preset(
    name="kubernetes",
    issuer=None,
    algorithms=("RS256", "ES256", "ES384", "ES512"),
    run_claims=("kubernetes.io.pod.name", "kubernetes.io.pod.uid", "kubernetes.io.node.name"),
)
