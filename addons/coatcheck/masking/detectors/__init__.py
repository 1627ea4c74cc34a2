"""Kinds of personal data that can be found in text, one file each.

Law: `spans(a + "\\n" + b)` is `spans(a)` and `spans(b)` shifted: a find never crosses a line feed, and a line feed
counts as the edge of the text. So many strings joined with line feeds can be searched as one.
Law: time grows with the length of the text, whatever the text.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from coatcheck.masking.detectors.credit_card import CreditCard
from coatcheck.masking.detectors.email import Email
from coatcheck.masking.detectors.iban import Iban


class Detector(Protocol):
    """Finds one kind of personal data."""

    @property
    def name(self) -> str:
        """The name in policy (`detect:`)."""
        ...

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every find, in order of their starts; they may overlap."""
        ...

    def partial(self, found: str) -> str:
        """The find with enough left for people to tell two apart (`as: partial`)."""
        ...


DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {detector.name: detector for detector in (Email(), CreditCard(), Iban())}
)
"""Every detector by its name in policy."""
