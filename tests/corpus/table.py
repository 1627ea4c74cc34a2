"""Writes tests/corpus.md: every attack, what must come of it, and the tests that show it.

python tests/corpus/table.py
"""

import ast
from collections import defaultdict
from pathlib import Path

from cases import CASES, NOT_APPLICABLE, SHOWN_ELSEWHERE

TESTS = Path(__file__).resolve().parent.parent
TABLE = TESTS / "corpus.md"

INTRODUCTION = """\
# Known attacks, and the tests that show what comes of them

Made by `python tests/corpus/table.py`; a test fails where it is not up to date. Each test sends the attack and then a
good request of the same kind, which must arrive: `pytest -m corpus`.
"""


def test_names(file: Path) -> list[tuple[str, list[str]]]:
    """The tests of a file, each with the ids it is marked with."""
    return [
        (node.name, [case_id for mark in node.decorator_list for case_id in _ids(mark)])
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def _ids(decorator: ast.expr) -> list[str]:
    match decorator:
        case ast.Call(func=ast.Attribute(attr="attack"), args=arguments):
            return [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
        case _:
            return []


def shown_by() -> dict[str, list[str]]:
    """The tests by the id they show, in the order of the files."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted((TESTS / "corpus").glob("test_*.py")):
        for name, ids in test_names(file):
            for case_id in ids:
                found[case_id].append(f"{file.relative_to(TESTS.parent)}::{name}")
    for case_id, elsewhere in SHOWN_ELSEWHERE.items():
        found[case_id] += elsewhere
    return found


def render() -> str:
    """The table as Markdown."""
    tests = shown_by()
    lines = [INTRODUCTION, "| id | sent | required | shown by |", "|---|---|---|---|"]
    for case_id, case in CASES.items():
        if case_id not in NOT_APPLICABLE:
            lines.append(f"| {case_id} | {case.sent} | {case.required} | {_cell(tests[case_id])} |")
    lines += ["\n## Not applicable\n", "| id | sent | why | shown by |", "|---|---|---|---|"]
    lines += [
        f"| {case_id} | {CASES[case_id].sent} | {why} | {_cell(tests[case_id])} |"
        for case_id, why in NOT_APPLICABLE.items()
    ]
    return "\n".join(lines) + "\n"


def _cell(tests: list[str]) -> str:
    return "<br>".join(f"`{test.removeprefix('tests/')}`" for test in tests)


if __name__ == "__main__":
    TABLE.write_text(render())
