"""Azure: managed identities and other workloads of Microsoft Entra (Microsoft's "Access token claims reference"; as
of November 2026).

A workload asks for a token of an app registration; `aud` is that app's URI or id, so register one for the gateway and
make its identifier URI `gateway.audience`. Worth matching: `oid` (the workload's object), `azp` (v2.0) or `appid`
(v1.0) (its application), `roles` (the app roles an administrator gave it). Match none of `name`, `upn`,
`unique_name`, `email` and `preferred_username`: their holders can change them.

Each tenant is its own issuer: `https://login.microsoftonline.com/TENANT/v2.0`, or `https://sts.windows.net/TENANT/`
where the app registration asks for v1.0 tokens. A managed identity's token can live for more than a day, and is then
refused unless the issuer has `max_lifetime: 25h`.
"""

from coatcheck.identity.presets.preset import UUID, Preset

AZURE = Preset(
    name="azure",
    issuer=None,
    algorithms=("RS256",),
    pins={"oid": UUID, "azp": UUID, "appid": UUID, "sub": r"[^*]+", "roles": r"[^*]+"},
    run_claims=("uti",),
)
