"""The audit log: append-only, hash-chained, durable before a request is forwarded."""
