"""`coatcheck doctor` is content with what a gateway starts on, and names each thing that is wrong otherwise."""

import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from coatcheck.journal.encoding import encode_fields
from coatcheck.journal.tape import Tape
from coatcheck.state import StateDirectory
from coatcheck_cli.checks import check_authority
from coatcheck_cli.main import cli
from story.issuer import Issuer
from story.part import free_port

CLEAN = dict.fromkeys(
    (
        "COATCHECK_STATE", "COATCHECK_POLICY", "COATCHECK_LISTEN", "COATCHECK_CONTROL", "COATCHECK_KEY_CMD",
        "COATCHECK_KEY_FILE", "CREDENTIALS_DIRECTORY", "SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE",
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


class Patient:
    """A state made by `coatcheck init`, a policy with one issuer, and two free ports."""

    def __init__(self, folder: Path, issuer: str) -> None:
        self.state, self.policy = folder / "state", folder / "policy.yaml"
        self.listen, self.control = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.policy.write_text(self.policy_text(issuer))
        assert CliRunner().invoke(cli, ["init", "--state", str(self.state)], env=CLEAN).exit_code == 0

    @staticmethod
    def policy_text(issuer: str) -> str:
        return f"""
coatcheck: 1
gateway: {{audience: https://gateway.acme.dev}}
issuers:
  ci: {{issuer: "{issuer}", algorithms: [ES256]}}
identities:
  nightly: {{issuer: ci, claims: {{sub: nightly}}}}
servers:
  shop: {{url: https://shop.acme.dev}}
rules:
  - {{id: reads, who: [nightly], server: shop, http: ["GET /**"], effect: allow}}
"""

    def examined(self, *more: str, **environment: str) -> tuple[int, list[dict]]:
        """The exit code, and the lines as JSON."""
        arguments = ["doctor", "--state", str(self.state), "--policy", str(self.policy)]
        arguments += ["--listen", self.listen, "--control", self.control, "--json", *more]
        result = CliRunner().invoke(cli, arguments, env=CLEAN | environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, json.loads(result.stdout)

    def problems(self, *more: str, **environment: str) -> dict[str, str]:
        """What is wrong, by check; each must have been an exit code of 1."""
        code, found = self.examined(*more, **environment)
        wrong = [each for each in found if not each["ok"]]
        assert code == (1 if wrong else 0)
        assert all(each["hint"] for each in wrong)
        return {each["check"]: each["what"] for each in wrong}


@pytest.fixture
def patient(tmp_path, issuer) -> Patient:
    return Patient(tmp_path, issuer.url)


def test_a_gateway_that_would_start_has_no_problem_and_exits_with_0(patient, issuer) -> None:
    code, found = patient.examined()
    assert code == 0
    assert [each["check"] for each in found] == [
        "state", "key", "vault", "policy", "ca", "listen port", "control port", "issuer ci", "clock",
    ]  # fmt: skip
    assert all(each["ok"] for each in found)
    assert issuer.url in found[7]["what"]


def test_it_prints_a_line_for_each_and_a_hint_under_it(patient) -> None:
    (patient.state / "ca" / "ca.pem").unlink()
    arguments = ["doctor", "--state", str(patient.state), "--policy", str(patient.policy)]
    result = CliRunner().invoke(cli, [*arguments, "--listen", patient.listen, "--control", patient.control], env=CLEAN)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("problem  ca ")]
    assert lines[at + 1].split()[:4] == ["hint", "make", "it", "with:"]
    assert sum(line.startswith("ok ") for line in lines) == 8


def test_it_makes_nothing(tmp_path, patient, issuer) -> None:
    patient.state = tmp_path / "none"
    assert patient.problems().keys() == {"state", "key", "ca"}
    assert not patient.state.exists()


def test_it_shows_neither_key_nor_secret(patient) -> None:
    _, found = patient.examined()
    key = (patient.state / "master.key").read_text().strip()
    assert key not in json.dumps(found)


# -- each thing that can be wrong -------------------------------------------------------------------------------------


def test_a_state_open_to_others(patient) -> None:
    patient.state.chmod(0o755)
    assert "open to others (mode 0755)" in patient.problems()["state"]


@pytest.mark.parametrize("name", ["ca/mitmproxy-ca.pem", "state.db", "journal"])
def test_anything_in_it_open_to_others(patient, name) -> None:
    (patient.state / name).chmod(0o750)
    assert f"{patient.state / name}: open to others (mode 0750)" in patient.problems()["state"]


def test_a_link_in_it(patient, tmp_path) -> None:
    (patient.state / "sessions" / "elsewhere").symlink_to(tmp_path)
    assert patient.problems()["state"].endswith("elsewhere: this is a link")


def test_a_key_that_is_missing_or_wrong(patient) -> None:
    key = patient.state / "master.key"
    key.write_text("00" * 32)
    assert "key" in patient.problems()["vault"]
    key.write_text("short")
    assert "not a master key" in patient.problems()["key"]
    key.unlink()
    assert "no master key" in patient.problems()["key"]


def test_a_key_that_is_named_and_not_there(patient) -> None:
    assert "/none" in patient.problems(COATCHECK_KEY_FILE="/none/key")["key"]


def test_a_database_that_is_missing(patient) -> None:
    for path in patient.state.glob("state.db*"):
        path.unlink()
    assert "no database" in patient.problems()["vault"]
    assert not (patient.state / "state.db").exists()


def test_a_policy_with_mistakes_each_with_its_place(patient) -> None:
    patient.policy.write_text(patient.policy.read_text().replace("effect: allow", "effect: alow, nonsense: 1"))
    _, found = patient.examined()
    wrong = [each["what"] for each in found if not each["ok"]]
    assert len(wrong) >= 2
    assert all(what.startswith(f"{patient.policy}:") for what in wrong)


def test_a_policy_that_names_a_secret_the_vault_does_not_have(patient) -> None:
    text = patient.policy.read_text().replace(
        "url: https://shop.acme.dev", "url: https://shop.acme.dev, credential: k1"
    )
    patient.policy.write_text(text)
    assert "k1" in patient.problems()["policy"]


def test_no_policy(patient) -> None:
    arguments = ["doctor", "--state", str(patient.state), "--listen", patient.listen, "--control", patient.control]
    result = CliRunner().invoke(cli, arguments, env=CLEAN)
    assert result.exit_code == 1
    assert "problem  policy        none is given" in result.stdout


def test_a_ca_that_is_not_the_one_the_gateway_signs_with(patient, tmp_path, issuer) -> None:
    (tmp_path / "other").mkdir()
    other = Patient(tmp_path / "other", issuer.url)
    shutil.copy(other.state / "ca" / "ca.pem", patient.state / "ca" / "ca.pem")
    assert "not the certificate that the gateway signs with" in patient.problems()["ca"]
    (patient.state / "ca" / "ca.pem").write_text("nonsense")
    assert "no certificate that can be read" in patient.problems()["ca"]


@pytest.mark.parametrize(("days", "ok"), [(0, True), (3650 - 60, True), (3650, False), (-10, False)])
def test_a_ca_that_is_about_to_end(patient, days, ok) -> None:
    now = datetime.now(UTC) + timedelta(days=days)
    assert check_authority(StateDirectory(patient.state), now=now).ok is ok


def test_a_port_that_something_else_listens_on(patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        patient.listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "in use" in patient.problems()["listen port"]
    assert patient.problems() == {}


@pytest.mark.parametrize("address", ["8080", "127.0.0.1:99999", "192.0.2.1:8080"])
def test_an_address_that_cannot_be_listened_on(patient, address) -> None:
    patient.listen = address
    assert "listen port" in patient.problems()


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        pytest.param({"status": "ready", "policy": "ab", "problems": {}}, set(), id="a gateway"),
        pytest.param({"hello": "world"}, {"control port", "listen port"}, id="something else"),
    ],
)
def test_ports_in_use_are_right_where_a_gateway_runs(patient, answer, wrong) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        patient.control = f"127.0.0.1:{server.server_port}"
        patient.listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert patient.problems().keys() == wrong
        server.shutdown()


def test_an_issuer_that_does_not_answer(patient) -> None:
    patient.policy.write_text(patient.policy_text(f"http://127.0.0.1:{free_port()}"))
    assert "http://127.0.0.1" in patient.problems()["issuer ci"]


def test_an_issuer_whose_keys_are_for_other_algorithms(patient) -> None:
    with Issuer("RS256") as other:
        patient.policy.write_text(patient.policy_text(other.url))
        assert "none of its 1 keys is for ES256" in patient.problems()["issuer ci"]


@pytest.mark.parametrize(("days", "is_good"), [(60, True), (20, False), (-1, False)])
def test_an_issuer_of_assertions_is_asked_nothing_and_its_certificate_looked_at(patient, days, is_good) -> None:
    pytest.importorskip("signxml", reason="needs the extra 'saml': run scripts/bootstrap")
    from assertions import Idp

    made = Idp(now=datetime.now(UTC) - timedelta(days=2), days=days + 2)
    made.write(patient.policy.with_name("idp.pem"))
    issuer = '  ci: {issuer: "http://127.0.0.1:1/saml", saml: {certificate: idp.pem}}'
    text = re.sub("  ci: .*", issuer, patient.policy_text("http://127.0.0.1:1"))
    patient.policy.write_text(text)
    (found,) = [each for each in patient.examined()[1] if each["check"] == "issuer ci"]
    assert (found["ok"], "good until" in found["what"]) == (is_good, True)


def test_an_issuer_whose_clock_is_another(patient, issuer, monkeypatch) -> None:
    """The issuer's own server says a date; this one's is an hour behind."""
    late = "Tue, 24 Nov 2020 07:00:00 GMT"
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda self, timestamp=None: late)
    assert patient.problems()["clock"].startswith("the clock of issuer ci and this machine's are ")


@pytest.mark.parametrize(("hours", "is_behind"), [(-1, False), (1, True)])
def test_a_clock_behind_the_journal(patient, hours, is_behind) -> None:
    tape = Tape(patient.state / "journal")
    at = datetime.now(UTC) + timedelta(hours=hours)
    tape.open(at)
    tape.append([("lifecycle", encode_fields({"event": "started"}))], at)
    tape.close()
    assert ("clock" in patient.problems()) is is_behind


def test_a_journal_whose_end_is_no_record(patient) -> None:
    tape = Tape(patient.state / "journal")
    tape.open(datetime.now(UTC))
    tape.append([("lifecycle", encode_fields({"event": "started"}))], datetime.now(UTC))
    tape.close()
    (path,) = (patient.state / "journal").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"at"', b'"ta"'))
    assert "cannot be read" in patient.problems()["clock"]


def test_session_keys_written_to_a_file(patient) -> None:
    assert patient.problems(SSLKEYLOGFILE="/tmp/keys")["environment"] == "SSLKEYLOGFILE is set"
    assert os.environ.get("SSLKEYLOGFILE") is None
