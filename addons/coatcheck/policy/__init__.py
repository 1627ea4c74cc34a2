"""The policy: who may ask which server for what, read from YAML with positions, decided by pure functions."""
