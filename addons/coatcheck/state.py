"""The state directory: 0700, its files 0600, owned by us (DESIGN 5.6).

Law: a directory or file that others could have written, or that is a link, is refused, never repaired.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, event

from coatcheck.errors import StateError


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Where everything lives. Made by `coatcheck init`; opened by everything else."""

    root: Path

    @property
    def database(self) -> Path:
        """SQLite: vault rows, approvals, grants, the session index."""
        return self.root / "state.db"

    @property
    def journal(self) -> Path:
        """The folder of the hash-chained journal files."""
        return self.root / "journal"

    @property
    def sessions(self) -> Path:
        """The folder of the recorded sessions, one folder a day."""
        return self.root / "sessions"

    @property
    def ca(self) -> Path:
        """The gateway's certificate authority; `ca.pem` is the certificate alone."""
        return self.root / "ca"

    @property
    def master_key(self) -> Path:
        """The master key, where `coatcheck init` made one."""
        return self.root / "master.key"

    @property
    def web_password(self) -> Path:
        """The password of mitmweb, made at each start where the operator gave none."""
        return self.root / "web-password"

    def create(self) -> None:
        """Makes the directory and its folders, 0700; keeps what is there. Raises `StateError`."""
        for folder in (self.root, self.journal, self.sessions, self.ca):
            try:
                folder.mkdir(mode=0o700, parents=folder is self.root, exist_ok=True)
            except OSError as error:
                raise StateError(f"cannot make the directory: {error.strerror}", where=str(folder)) from error
        self.check()

    def check(self) -> None:
        """Raises `StateError` where the directory is missing, a link, another's, or open to others."""
        hint = f"make it with: coatcheck init --state {self.root}"
        try:
            info = self.root.lstat()
        except OSError as error:
            raise StateError(f"no state directory: {error.strerror}", where=str(self.root), hint=hint) from error
        if not stat.S_ISDIR(info.st_mode):
            raise StateError("the state directory is not a directory", where=str(self.root), hint=hint)
        if info.st_uid != os.geteuid():
            raise StateError("the state directory belongs to another user", where=str(self.root))
        if info.st_mode & 0o077:
            raise StateError(
                f"the state directory is open to others (mode {stat.S_IMODE(info.st_mode):04o})",
                where=str(self.root),
                hint=f"chmod 0700 {self.root}",
            )
        for folder in (self.journal, self.sessions, self.ca):
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise StateError("this must be a folder, not a link or a file", where=str(folder))

    def open_database(self) -> Engine:
        """The SQLite engine, in WAL mode with full durability; the file is made 0600. Raises `StateError`."""
        self.check()
        os.close(open_private(self.database, os.O_RDWR | os.O_CREAT))
        engine = create_engine(f"sqlite:///{self.database}", connect_args={"timeout": 10})

        @event.listens_for(engine, "connect")
        def _pragmas(connection: object, _record: object) -> None:
            cursor = connection.cursor()  # type: ignore[attr-defined]
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        return engine


def open_private(path: Path, flags: int = os.O_RDONLY) -> int:
    """Opens a private file without following a link; a new one is 0600. Returns a descriptor.

    Raises `StateError` where it is a link, another user's, or open to others.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(f"cannot open: {error.strerror}", where=str(path)) from error
    info = os.fstat(descriptor)
    if info.st_uid != os.geteuid() or info.st_mode & 0o077:
        os.close(descriptor)
        raise StateError(
            f"readable or owned by others (mode {stat.S_IMODE(info.st_mode):04o})",
            where=str(path),
            hint=f"chmod 0600 {path}",
        )
    return descriptor
