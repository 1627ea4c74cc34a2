"""The MCP conformance suite against our own server: direct, then through the gateway, compared check by check.

Law: what the gateway changes is found by comparing it with the same server reached direct, never by a list of
expected results.
"""
