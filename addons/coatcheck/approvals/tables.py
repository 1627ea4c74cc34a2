"""The approvals' table.

Law: no text from outside can upset a database: it is stored as ASCII JSON.
"""

from datetime import UTC, datetime, timedelta
from typing import override

from sqlalchemy import BigInteger, Column, Dialect, Index, MetaData, String, Table, Text, TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """A moment as microseconds since 1970, UTC: exact, and the same in both databases."""

    impl = BigInteger
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    @override
    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()
approvals = Table(
    "approvals",
    metadata,
    Column("id", String(10), primary_key=True),
    Column("gateway", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("call_digest", String(64), nullable=False),
    Column("open_key", String(64), unique=True),
    Column("question", Text, nullable=False),
    Column("votes", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("decided_at", Instant),
    Index("approvals_by_state", "state", "created_at"),
)
"""`open_key` says what the approval is for while `find_or_ask` may still find it, and is null after that."""
