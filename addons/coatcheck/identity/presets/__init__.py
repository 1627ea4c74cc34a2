"""Issuers known by name. A new one is a file here and an entry in `PRESETS`."""

from collections.abc import Mapping
from types import MappingProxyType

from coatcheck.identity.presets.github_actions import GITHUB_ACTIONS
from coatcheck.identity.presets.gitlab import GITLAB
from coatcheck.identity.presets.kubernetes import KUBERNETES
from coatcheck.identity.presets.preset import Preset

__all__ = ["PRESETS", "Preset"]

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for preset in (GITHUB_ACTIONS, GITLAB, KUBERNETES)}
)
