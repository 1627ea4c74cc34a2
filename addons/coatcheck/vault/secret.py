"""A secret is a type with one way out.

Law: `repr`, `str`, `format`, pickling, copying to JSON and comparison give nothing away.
"""

from typing import NoReturn


class Secret:
    """A credential's value. `reveal()` is called where bytes leave for the server (`vault/swap.py`) and
    where patterns to scrub are made from it (`vault/scrub.py`), nowhere else.
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never serialised")
