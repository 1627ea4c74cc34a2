"""Tests of conformance_lib/suite.py: the suite's files, read."""

import json

from conformance_lib.suite import Check, read_checks


def write(folder, *checks) -> None:
    folder.mkdir(parents=True)
    (folder / "checks.json").write_text(json.dumps(list(checks)))


def test_checks_are_read_with_their_scenario_and_without_log_lines(tmp_path) -> None:
    passed = {"id": "tools-list", "status": "SUCCESS"}
    log = {"id": "outgoing-request", "status": "INFO"}
    write(tmp_path / "server-tools-list-2026-11-24T08-11-37-646Z", passed, log)
    failed = {"id": "prm", "status": "FAILURE", "errorMessage": "not asked for"}
    write(tmp_path / "auth" / "metadata-default-2026-11-24T08-11-37-646Z", failed)
    assert read_checks(tmp_path) == (
        Check("auth/metadata-default", "prm", "FAILURE", "not asked for"),
        Check("tools-list", "tools-list", "SUCCESS"),
    )


def test_no_files_are_no_checks(tmp_path) -> None:
    assert read_checks(tmp_path) == ()
