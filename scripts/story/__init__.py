"""The cast of the product's story: an issuer, a shop, a pipeline, and the gateway between them.

Law: every part is a real process or a real socket on loopback; what a part started, it ends.
Used by `scripts/demo`, `scripts/bench` and the end-to-end tests.
"""
