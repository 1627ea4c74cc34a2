"""Google service accounts (Google's "Verifying the identity of instances", `gcloud auth print-identity-token`; as of
November 2026).

The metadata server of an instance, a Cloud Run service or a GKE pod gives one for an audience of the caller's choice;
it lives an hour at most. Worth matching: `sub` (the account's number, a string), with `format=full` also
`google.compute_engine.project_number` (a number), `google.compute_engine.instance_id`, `.zone`, `.instance_name`.

Every Google account there is gets tokens of this one issuer. `email` can be given to a new account once the old one
is deleted: match `sub`.
"""

from coatcheck.identity.presets.preset import NUMBER, Preset

GOOGLE = Preset(
    name="google",
    issuer="https://accounts.google.com",
    algorithms=("RS256",),
    pins={
        "sub": NUMBER,
        "google.compute_engine.instance_id": NUMBER,
        "google.compute_engine.project_number": NUMBER,
    },
    run_claims=("google.compute_engine.instance_id", "google.compute_engine.instance_name"),
)
