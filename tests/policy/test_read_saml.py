"""Issuers of SAML assertions, with the extra and without."""

import subprocess
import sys
import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
URL = "    issuer: https://idp.example.com/realms/bots\n    algorithms: [ES256, RS256]\n"
SAML = "    issuer: https://idp.example.com/realms/bots\n    saml: {certificate: idp.pem}\n"
GROUPS = "    groups: realm_access.roles\n"


def certificate(key) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "idp")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=30))
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return made.sign(key, digest).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def pem() -> bytes:
    return certificate(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def saml(draft, pem):
    """A draft whose issuer `corp` is one of assertions; skipped where the extra is not there."""
    pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")
    (draft.folder / "idp.pem").write_bytes(pem)
    draft.text = draft.edited("  sre: {issuer: corp", "  sre: {issuer: github", draft.edited(URL, SAML))
    return draft


def test_a_saml_issuer_pins_the_certificates_of_its_file(saml, pem):
    corp = saml.load(saml.text).issuers["corp"]
    assert (corp.algorithms, corp.groups_claim, corp.max_lifetime) == ((), "realm_access.roles", timedelta(hours=1))
    assert (len(corp.saml.certificates), corp.saml.recipient) == (1, None)
    (saml.folder / "idp.pem").write_bytes(pem + certificate(rsa.generate_private_key(65537, 2048)))
    edited = saml.edited("idp.pem}", "idp.pem, recipient: https://g.example/token}\n    max_lifetime: 2h", saml.text)
    corp = saml.load(edited).issuers["corp"]
    assert (len(corp.saml.certificates), corp.saml.recipient) == (2, "https://g.example/token")
    assert corp.max_lifetime == timedelta(hours=2)


@pytest.mark.parametrize("entity", ["urn:example:idp", "http://www.okta.com/exk1", "https://sts.windows.net/t/"])
def test_an_entity_is_named_by_any_uri(saml, entity):
    assert saml.load(saml.edited("https://idp.example.com/realms/bots", entity, saml.text)).issuers["corp"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        pytest.param("{certificate: idp.pem}", "{}", "missing key 'certificate'", id="no certificate"),
        pytest.param("{certificate: idp.pem}", "idp.pem", "saml is a mapping, not text", id="just a file"),
        pytest.param("idp.pem}", "idp.pem, digest: sha1}", "unknown key 'digest'", id="unknown key"),
        pytest.param("idp.pem}", "other.pem}", "no such file: other.pem", id="no such file"),
        pytest.param("idp.pem}", "ca.pem}", "not a file of certificates: ca.pem", id="no certificates in it"),
        pytest.param("idp.pem}", "idp.pem, recipient: gateway}", "recipient: not a URL", id="recipient no URL"),
        pytest.param(GROUPS, "    algorithms: [RS256]\n", "'algorithms' beside 'saml'", id="algorithms"),
        pytest.param(GROUPS, "    preset: gitlab\n", "'preset' beside 'saml'", id="preset"),
        pytest.param(GROUPS, "    jwks_uri: https://a.example/k\n", "'jwks_uri' beside 'saml'", id="keys"),
        pytest.param("https://idp.example.com/realms/bots", "an idp", "issuer is not a URI", id="no URI"),
        pytest.param("https://idp.example.com/realms/bots", '"a: b"', "issuer is not a URI", id="a space in it"),
        pytest.param("    issuer: https://idp.example.com/realms/bots\n", "", "missing key 'issuer'", id="no issuer"),
        pytest.param(GROUPS, "    max_lifetime: 31d\n", "out of range", id="lifetime"),
    ],
)
def test_a_saml_issuer_is_read_strictly(saml, old, new, what):
    found = saml.faults(saml.edited(old, new, saml.text))
    assert any(what in said for _, said, _ in found), found


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(rsa.generate_private_key(65537, 1024), id="a short RSA key"),  # noqa: S505 - what is refused
        pytest.param(ec.generate_private_key(ec.SECP192R1()), id="a short curve"),
        pytest.param(ec.generate_private_key(ec.SECP256K1()), id="another curve"),
        pytest.param(ed25519.Ed25519PrivateKey.generate(), id="a key no SAML signature is made with"),
    ],
)
def test_a_weak_or_unfit_key_is_refused(saml, key, pem):
    (saml.folder / "idp.pem").write_bytes(certificate(key))
    assert any("neither RSA of 2048 bits" in said for _, said, _ in saml.faults(saml.text))
    (saml.folder / "idp.pem").write_bytes(pem)
    assert saml.load(saml.text)


def test_a_reviewer_who_could_never_show_a_token_is_refused(saml):
    found = saml.faults(saml.edited("  sre: {issuer: github", "  sre: {issuer: corp", saml.text))
    assert [said for _, said, _ in found] == ["reviewer sre cannot prove anything: corp is an issuer of assertions"]


def test_a_private_key_in_the_file_and_too_many_certificates_are_refused(saml, pem):
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (certificate(key) + private, pem * 5, b""):
        (saml.folder / "idp.pem").write_bytes(content)
        assert any("not a file of certificates" in said for _, said, _ in saml.faults(saml.text))


def test_one_provider_may_be_an_issuer_of_tokens_and_one_of_assertions(saml):
    twin = f"  oidc:\n{URL}"
    both = saml.load(saml.edited("identities:\n", f"{twin}identities:\n", saml.text))
    assert {name for name, spec in both.issuers.items() if spec.saml} == {"corp"}
    assert "https://idp.example.com/realms/bots" in both.issuer_urls
    second = saml.edited("identities:\n", f"  more:\n{SAML}identities:\n", saml.text)
    assert any("same URL as 'corp'" in said for _, said, _ in saml.faults(second))


def test_the_name_of_a_saml_issuer_makes_no_bearer_token_ours(saml):
    assert "https://idp.example.com/realms/bots" not in saml.load(saml.text).issuer_urls


def python(code: str, *, path: str = "") -> str:
    """What a fresh Python prints; with `path` it finds what that holds and nothing else."""
    options, search = (["-S", "-E"], f"import sys; sys.path += {path.split(':')!r}\n") if path else ([], "")
    command = [sys.executable, *options, "-c", search + code]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout


def test_the_gateway_and_its_command_line_import_nothing_of_the_extra():
    code = "import sys, coatcheck.chain, coatcheck_cli.main; print(sorted({'signxml', 'lxml'} & sys.modules.keys()))"
    assert python(code) == "[]\n"


def test_without_the_extra_a_policy_loads_and_one_with_a_saml_issuer_says_what_to_install(draft, tmp_path, pem):
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("signxml", "lxml")):
            (packages / entry.name).symlink_to(entry)
    (draft.folder / "idp.pem").write_bytes(pem)
    policy = draft.folder / "p.yaml"
    code = (
        "from pathlib import Path\n"
        "from coatcheck.errors import PolicyError\n"
        "from coatcheck.policy.load import load_policy\n"
        f"try: print(len(load_policy(Path({str(policy)!r})).issuers))\n"
        "except PolicyError as error: print('\\n'.join(error.lines()))\n"
    )
    path = f"{packages}:{ROOT / 'addons'}"
    policy.write_text(draft.text)
    assert python(code, path=path) == "2\n"
    policy.write_text(draft.edited("  sre: {issuer: corp", "  sre: {issuer: github", draft.edited(URL, SAML)))
    assert python(code, path=path) == (
        f"error: {policy}:9:5: SAML needs the extra 'saml', which is not installed\n"
        "hint: install it: pip install 'coatcheck[saml]'\n"
    )
