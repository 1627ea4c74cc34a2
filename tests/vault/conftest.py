"""A real vault in a real state directory, and values that need none."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coatcheck.policy.model import Server
from coatcheck.state import StateDirectory
from coatcheck.vault.bindings import Binding
from coatcheck.vault.keys import MasterKey
from coatcheck.vault.secret import Secret
from coatcheck.vault.snapshot import Credential, SecretInfo
from coatcheck.vault.store import Vault

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def key() -> MasterKey:
    return MasterKey(bytes(range(32)))


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.create()
    return made


@pytest.fixture
def vault(state: StateDirectory, key: MasterKey) -> Vault:
    return Vault.create(state.open_database(), key)


@pytest.fixture
def server() -> Callable[..., Server]:
    def make(name: str = "github", url: str = "https://api.github.test/mcp", credential: str | None = None) -> Server:
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        assert scheme in {"http", "https"}
        return Server(name, url, scheme, host, 443, "/" + path, credential)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def credential() -> Callable[..., Credential]:
    def make(value: bytes, *bindings: Binding, name: str = "token", version: int = 1) -> Credential:
        places = bindings or (Binding("github"),)
        return Credential(SecretInfo(name, version, f"coat_{name}", places, NOW, value[:8].hex()), Secret(value))

    return make
