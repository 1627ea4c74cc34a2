"""Issuers known by name. A new one is a file here and an entry in `PRESETS`."""

from collections.abc import Mapping
from types import MappingProxyType

from coatcheck.identity.presets.aws import AWS
from coatcheck.identity.presets.azure import AZURE
from coatcheck.identity.presets.buildkite import BUILDKITE
from coatcheck.identity.presets.circleci import CIRCLECI
from coatcheck.identity.presets.github_actions import GITHUB_ACTIONS
from coatcheck.identity.presets.gitlab import GITLAB
from coatcheck.identity.presets.google import GOOGLE
from coatcheck.identity.presets.kubernetes import KUBERNETES
from coatcheck.identity.presets.preset import Preset
from coatcheck.identity.presets.spiffe import SPIFFE

__all__ = ["PRESETS", "Preset"]

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (AWS, AZURE, BUILDKITE, CIRCLECI, GITHUB_ACTIONS, GITLAB, GOOGLE, KUBERNETES, SPIFFE)
    }
)
