"""Kinds of personal data that can be found in text, one file each.

Law: `spans(a + "\\n" + b)` is `spans(a)` and `spans(b)` shifted: a find never crosses a line feed, and a line feed
counts as the edge of the text. So many strings joined with line feeds can be searched as one. A double quote is such
an edge too, so strings in JSON can be searched where they stand.
Law: where `may_hold` is false of some bytes, no text that stands in them as UTF-8 holds a find.
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

    def may_hold(self, data: bytes) -> bool:
        """Whether a text somewhere in `data` may hold a find. Asked of every message, so it has to be quick."""
        ...

    def places(self, data: bytes) -> int:
        """How many places of a text in UTF-8 `spans` has to look at closely, to within a small factor."""
        ...

    def spans(self, text: str) -> Iterable[tuple[int, int]]:
        """Start and end of every find, in order of their starts; they may overlap."""
        ...

    def partial(self, found: str) -> str:
        """The find with enough left for people to tell two apart (`as: partial`); nothing that JSON has to escape."""
        ...


DETECTORS: Mapping[str, Detector] = MappingProxyType(
    {detector.name: detector for detector in (Email(), CreditCard(), Iban())}
)
"""Every detector by its name in policy."""
