"""Who is calling: tokens found, verified and matched to the identities a policy declares."""
