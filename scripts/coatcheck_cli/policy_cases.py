"""`coatcheck policy test`: a policy's own cases, tried."""

from datetime import UTC, datetime
from pathlib import Path

import click

from coatcheck.errors import CoatcheckError
from coatcheck.policy.cases import CaseFile, find_case_files
from coatcheck.policy.load import load_policy
from coatcheck.policy.trial import Coverage, Outcome, coverage, try_cases
from coatcheck_cli.options import json_option, json_text, printable


@click.command("test")
@click.argument("path", envvar="COATCHECK_POLICY", type=click.Path(path_type=Path))
@json_option
def test_command(path: Path, *, as_json: bool) -> None:
    """Try the cases of a policy (`*.test.yaml`), and say which rules they cover. Exit 1 where one fails.

    PATH is a test file, a folder of them, or a policy file with its tests beside it (COATCHECK_POLICY).
    """
    now = datetime.now(UTC)
    by_policy: dict[Path, list[CaseFile]] = {}
    for file in find_case_files(path):
        by_policy.setdefault(file.policy, []).append(file)
    results = []
    for policy, files in sorted(by_policy.items()):
        loaded = load_policy(policy)
        outcomes = [(file, try_cases(loaded, file.cases, now=now)) for file in files]
        results.append((policy, outcomes, coverage(loaded, [one for _, made in outcomes for one in made])))
    problems = [one.problem for _, files, _ in results for _, made in files for one in made if one.problem]
    if as_json:
        data = [_as_data(policy, files, covered) for policy, files, covered in results]
        click.echo(json_text(data))
        if problems:
            click.get_current_context().exit(1)
        return
    for _, tried, covered in results:
        for file, made in tried:
            passed = sum(one.problem is None for one in made)
            click.echo(printable(f"{file.path}: {passed} of {len(made)} cases passed"))
        click.echo(printable(_in_words(covered)))
    if problems:
        raise CoatcheckError(problems)


def _in_words(covered: Coverage) -> str:
    tried = covered.rules - len(covered.untried)
    said = f"rules covered: {tried} of {covered.rules}"
    return f"{said}; not covered: {', '.join(covered.untried)}" if covered.untried else said


def _as_data(policy: Path, files: list[tuple[CaseFile, list[Outcome]]], covered: Coverage) -> dict[str, object]:
    cases = [
        {
            "file": str(file.path),
            "where": one.case.where,
            "case": one.case.name,
            "passed": one.problem is None,
            "problem": one.problem.what if one.problem else None,
        }
        for file, made in files
        for one in made
    ]
    rules = {"rules": covered.rules, "covered": covered.rules - len(covered.untried), "uncovered": covered.untried}
    return {"policy": str(policy), "cases": cases, "coverage": rules}
