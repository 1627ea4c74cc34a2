"""The side door: health, metrics and approvals over HTTP, on an address of its own."""
