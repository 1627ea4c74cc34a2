"""Recorded sessions: one caller's conversation with one server, kept so that it can be told back and re-sent."""
