"""Held calls: what is asked of whom, who answered, and what the answer permits."""
