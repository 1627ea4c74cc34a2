"""The masks of each server, made ready once for each policy."""

from coatcheck.masking.masker import Masker
from coatcheck.policy.model import Policy


class Maskers:
    """One `Masker` per server and policy, made once."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._made: dict[tuple[str, str], Masker] = {}

    def get(self, policy: Policy, server: str) -> Masker:
        """The masker for answers of this server."""
        made = self._made.get((policy.sha256, server))
        if made is None:
            made = Masker([rule for rule in policy.masks if rule.server == server], key=self._key)
            self._made[policy.sha256, server] = made
        return made
