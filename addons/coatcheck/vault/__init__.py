"""Stored credentials: sealed at rest, bound to where they may go, put in only as bytes leave."""
