"""The Model Context Protocol over HTTP, as pure functions: bytes in, calls and answers out."""
