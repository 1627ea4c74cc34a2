"""The master key: where it comes from, and the keys made from it.

Law: the master key itself seals nothing; every purpose has a key of its own (HKDF-SHA256, RFC 5869).
Law: a source that is named but cannot be used is an error; the next one is never tried in its place.
"""

import base64
import binascii
import os
import shlex
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from coatcheck.errors import StateError, VaultError
from coatcheck.state import StateDirectory, open_private

KEY_BYTES = 32
COMMAND_VARIABLE = "COATCHECK_KEY_CMD"
FILE_VARIABLE = "COATCHECK_KEY_FILE"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
CREDENTIAL_NAME = "coatcheck.key"
COMMAND_SECONDS = 10
TEXT_LIMIT = 1024
"""Bytes of a key's text looked at; the longest form has 64 and a line end."""


class MasterKey:
    """32 random bytes from which every other key is derived; `repr` and pickling give nothing."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes")
        self._key = key

    def derive(self, purpose: str) -> bytes:
        """The 32-byte key for one purpose (`kek`, `placeholder`, `fingerprint`…): RFC 5869, the purpose in `info`."""
        info = b"coatcheck/1/" + purpose.encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key)

    def __repr__(self) -> str:
        return "MasterKey(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MasterKey is never serialised")


def make_master_key(path: Path) -> MasterKey:
    """Makes a new key and writes it to a new file, 0600, as 64 hexadecimal digits. Raises `VaultError`.

    A file that exists is kept: what is sealed under a lost key is lost with it.
    """
    key = os.urandom(KEY_BYTES)
    try:
        descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except StateError as error:
        cause = error.problems[0]
        raise VaultError(f"cannot make the master key: {cause.what}", where=str(path)) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return MasterKey(key)


def find_master_key(state: StateDirectory, environ: Mapping[str, str]) -> tuple[MasterKey, str]:
    """The master key and where it came from, by the order of DESIGN 5.6. Raises `VaultError`.

    `COATCHECK_KEY_CMD` (split like a shell's words, run without one, 10 seconds), `COATCHECK_KEY_FILE`,
    `$CREDENTIALS_DIRECTORY/coatcheck.key`, the state directory's `master.key`. The key is text:
    64 hexadecimal digits, or base64 of 32 bytes.
    """
    if (command := _setting(environ, COMMAND_VARIABLE)) is not None:
        return _parse(_run(command, environ), COMMAND_VARIABLE), COMMAND_VARIABLE
    if (named := _setting(environ, FILE_VARIABLE)) is not None:
        path = Path(named).expanduser()
        return _parse(_read_private(path), str(path)), f"{FILE_VARIABLE} ({path})"
    if folder := environ.get(CREDENTIALS_VARIABLE):
        path = Path(folder) / CREDENTIAL_NAME
        if os.path.lexists(path):
            return _parse(_read_credential(path), str(path)), f"systemd credential ({path})"
    path = state.master_key
    if not os.path.lexists(path):
        hint = f"make one with: coatcheck vault init --state {state.root}; or set {COMMAND_VARIABLE} or {FILE_VARIABLE}"
        raise VaultError("no master key", where=str(path), hint=hint)
    return _parse(_read_private(path), str(path)), str(path)


def find_or_make_master_key(state: StateDirectory, environ: Mapping[str, str]) -> tuple[MasterKey, str, bool]:
    """As `find_master_key`, but where no source is named a new key is made in the state directory.

    The third item is true where the key was made now. Raises `VaultError`.
    """
    named = any(name in environ for name in (COMMAND_VARIABLE, FILE_VARIABLE))
    folder = environ.get(CREDENTIALS_VARIABLE)
    credential = bool(folder) and os.path.lexists(Path(folder or "") / CREDENTIAL_NAME)
    if named or credential or os.path.lexists(state.master_key):
        return *find_master_key(state, environ), False
    return make_master_key(state.master_key), str(state.master_key), True


def _setting(environ: Mapping[str, str], name: str) -> str | None:
    """A variable's value; set but empty is an error (a failed expansion must not choose another key)."""
    value = environ.get(name)
    if value is not None and not value.strip():
        raise VaultError("set but empty", where=name, hint=f"unset {name}, or give it a value")
    return value


def _run(command: str, environ: Mapping[str, str]) -> bytes:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise VaultError("not a command: unbalanced quotes", where=COMMAND_VARIABLE) from error
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command, split into words, no shell
            words,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # Not chained: the exception carries the output so far, which may be the key.
        raise VaultError(f"the command took more than {COMMAND_SECONDS} seconds", where=COMMAND_VARIABLE) from None
    except OSError as error:
        raise VaultError(f"cannot run the command: {error.strerror}", where=COMMAND_VARIABLE) from error
    if done.returncode != 0:
        raise VaultError(f"the command failed with exit status {done.returncode}", where=COMMAND_VARIABLE)
    return done.stdout[:TEXT_LIMIT]


def _read_private(path: Path) -> bytes:
    try:
        descriptor = open_private(path)
    except StateError as error:
        cause = error.problems[0]
        raise VaultError(f"the master key's file: {cause.what}", where=cause.where, hint=cause.hint) from error
    return _read(descriptor, path)


def _read_credential(path: Path) -> bytes:
    """A systemd credential: root's or ours, and shown as 0440 where an access list names the service's user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise VaultError(f"the master key's file: cannot open: {error.strerror}", where=str(path)) from error
    info = os.fstat(descriptor)
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o037:
        os.close(descriptor)
        mode = f"{stat.S_IMODE(info.st_mode):04o}"
        raise VaultError(f"the master key's file: readable or owned by others (mode {mode})", where=str(path))
    return _read(descriptor, path)


def _read(descriptor: int, path: Path) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise VaultError("the master key's file: not a regular file", where=str(path))
        return file.read(TEXT_LIMIT)


def _parse(text: bytes, where: str) -> MasterKey:
    """64 hexadecimal digits or base64 of 32 bytes; the text never shows in the error."""
    text = text.strip()
    try:
        key = (
            bytes.fromhex(text.decode("ascii")) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
        )
        return MasterKey(key)
    except (binascii.Error, ValueError):
        hint = "a key is 64 hexadecimal digits or base64 of 32 bytes, such as: openssl rand -hex 32"
        raise VaultError("not a master key", where=where, hint=hint) from None
