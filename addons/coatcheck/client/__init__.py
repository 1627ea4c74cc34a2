"""The caller's side: where its token comes from, and what standard clients read to go through the gateway."""
