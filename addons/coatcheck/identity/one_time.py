"""Tokens that count once: the ids of those that were used, until they would have expired anyway.

Law: an id counts for one use, whoever races whom and across restarts; where that cannot be made sure, for none.
Law: the table is bounded. When it is full, new ids are refused; none that still matters is forgotten.
"""

from datetime import datetime, timedelta

from sqlalchemy import Column, Engine, MetaData, String, Table, delete, func, insert, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from coatcheck.approvals.tables import Instant
from coatcheck.errors import CoatcheckError, Refusal

MAX_USED = 100_000
KEEP_BEYOND_EXPIRY = timedelta(hours=1)
"""More than any leeway, so that a clock put right does not bring an id back."""

_METADATA = MetaData()
_USED = Table(
    "used_tokens",
    _METADATA,
    Column("token_id", String(64), primary_key=True),
    Column("expires_at", Instant, nullable=False, index=True),
)


class UsedTokens:
    """The used ids of one database, shared by every gateway on it. Synchronous: call it off the event loop."""

    def __init__(self, engine: Engine, *, limit: int = MAX_USED) -> None:
        self._engine = engine
        self._limit = limit
        try:
            try:
                self._create()
            except IntegrityError:  # PostgreSQL: another gateway made the table in the same moment
                self._create()
        except SQLAlchemyError as error:
            raise CoatcheckError(f"the database failed: {type(error).__name__}", where="used tokens") from None

    def use(self, token_id: str, *, expires_at: datetime, now: datetime) -> None:
        """Spends a verified token: it returns once for each `token_id` (a digest, see `Verified.token_id`).

        Raises `Refusal`: 401 `token-replayed`; 503 `token-store-failed` where the database fails or is full.
        """
        row = {"token_id": token_id, "expires_at": expires_at}
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(_USED).where(_USED.c.expires_at < now - KEEP_BEYOND_EXPIRY))
                if connection.execute(select(func.count()).select_from(_USED)).scalar_one() >= self._limit:
                    raise _unsure("too many tokens were used in a short time")
                connection.execute(insert(_USED).values(row))
        except IntegrityError:
            raise Refusal.unauthenticated("token-replayed", "the token was used before; it counts once") from None
        except SQLAlchemyError:
            raise _unsure("whether the token was used before cannot be looked up") from None

    def _create(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(CreateTable(_USED, if_not_exists=True))
            for index in _USED.indexes:
                index.create(connection, checkfirst=True)


def _unsure(message: str) -> Refusal:
    return Refusal.unauthenticated("token-store-failed", message, status=503)
