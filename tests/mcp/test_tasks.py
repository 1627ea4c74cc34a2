"""Tests of mcp/tasks.py: a task is its caller's, and does not exist for anybody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.errors import Refusal
from coatcheck.mcp.call import Call
from coatcheck.mcp.correlation import Peers
from coatcheck.mcp.tasks import MAX_TASKS, RELATED_TASK, TaskOrigin, Tasks, filter_tasks, made_task

MINE = Peers("job", "ci", "repo:1", "shop")
OTHERS = {
    "another identity": MINE._replace(caller="other"),
    "another issuer": MINE._replace(issuer="other"),
    "another subject": MINE._replace(subject="repo:2"),
    "another server": MINE._replace(server="other"),
}
REFUND = TaskOrigin("x-1", "tools/call", "refund")


@pytest.fixture
def tasks() -> Tasks:
    made = Tasks()
    made.give(MINE, "t-1", REFUND)
    return made


def request(method, **params) -> tuple[list[Call], dict]:
    call = Call("mcp", method, params.get("taskId"), params=params, id=1)
    return [call], {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def asking(task_id) -> dict[str, tuple[list[Call], dict]]:
    return {
        **{method: request(f"tasks/{method}", taskId=task_id) for method in ("get", "result", "update", "cancel")},
        "listen": request("subscriptions/listen", notifications={"taskIds": [task_id]}),
        "related": request("tools/call", _meta={RELATED_TASK: {"taskId": task_id}}),
    }


@pytest.mark.parametrize("how", asking(""))
def test_a_task_is_found_by_its_caller_with_the_call_that_made_it(tasks, how) -> None:
    assert tasks.check(MINE, *asking("t-1")[how]) is REFUND


@pytest.mark.parametrize("how", asking(""))
@pytest.mark.parametrize("peers", OTHERS.values(), ids=OTHERS)
def test_a_task_of_another_caller_is_as_unknown_as_one_of_nobody(tasks, peers, how) -> None:
    said = []
    for task_id, who in (("t-1", peers), ("t-2", peers), ("t-2", MINE)):
        with pytest.raises(Refusal) as refused:
            tasks.check(who, *asking(task_id)[how])
        said.append((refused.value.reason, refused.value.code, refused.value.status, refused.value.data()))
    assert said[0] == said[1] == said[2]
    assert said[0][:3] == ("unknown-task", -32602, 200)


@pytest.mark.parametrize("odd", [5, None, [], {}])
def test_an_id_that_is_none_is_nobodys(tasks, odd) -> None:
    with pytest.raises(Refusal):
        tasks.check(MINE, *request("subscriptions/listen", notifications={"taskIds": ["t-1", odd]}))
    with pytest.raises(Refusal):
        tasks.check(MINE, *request("tools/call", _meta={RELATED_TASK: {"taskId": odd}}))


def test_what_is_about_no_task_is_about_none(tasks) -> None:
    assert tasks.check(MINE, *request("tools/call", name="refund")) is None
    assert tasks.check(MINE, *request("tasks/list")) is None
    own = {"jsonrpc": "2.0", "id": 1, "result": {"_meta": {RELATED_TASK: {"taskId": "the client's own"}}}}
    assert tasks.check(MINE, [Call("mcp", "sampling/createMessage")], own) is None


@pytest.mark.parametrize(
    "capabilities", [{"tasks": {}}, {"extensions": {"io.modelcontextprotocol/tasks": {}}}], ids=["2025", "2026"]
)
def test_a_server_that_says_it_has_no_tasks_may_say_that_there_is_none(capabilities) -> None:
    tasks = Tasks()
    unknown = asking("t-9")["get"]
    for known, declared in ((True, capabilities), (False, {}), (False, None), (True, capabilities)):
        tasks.learn_support(MINE, declared)
        if known:
            with pytest.raises(Refusal):
                tasks.check(MINE, *unknown)
        else:
            assert tasks.check(MINE, *unknown) is None
            for other in OTHERS.values():
                with pytest.raises(Refusal):
                    tasks.check(other, *unknown)


def test_a_task_that_a_server_made_after_all_is_its_callers_alone() -> None:
    tasks = Tasks()
    tasks.learn_support(OTHERS["another subject"], {})
    tasks.give(MINE, "t-1", REFUND)
    with pytest.raises(Refusal):
        tasks.check(OTHERS["another subject"], *asking("t-1")["get"])


def test_an_id_that_is_given_again_belongs_to_who_has_it_now(tasks) -> None:
    other = OTHERS["another subject"]
    tasks.give(other, "t-1", REFUND)
    assert tasks.owns(other, "t-1")
    assert not tasks.owns(MINE, "t-1")


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/tasks", "params": {"taskId": "t-1"}},
        {"method": "notifications/tasks/status", "params": {"taskId": "t-1"}},
        {"method": "notifications/progress", "params": {"_meta": {RELATED_TASK: {"taskId": "t-1"}}}},
        {"id": 1, "method": "elicitation/create", "params": {"_meta": {RELATED_TASK: {"taskId": "t-1"}}}},
    ],
)
def test_a_server_tells_of_a_task_its_caller_alone(tasks, message) -> None:
    assert tasks.passes(MINE, message)
    assert tasks.passes(OTHERS["another server"], message)
    assert not tasks.passes(OTHERS["another subject"], message)


@pytest.mark.parametrize("params", [None, {}, [], {"_meta": {}}, {"taskId": "t-1"}])
def test_what_a_server_says_of_no_task_passes(tasks, params) -> None:
    assert tasks.passes(OTHERS["another subject"], {"method": "notifications/message", "params": params})


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"task": {"taskId": "t-1", "status": "working"}}, "t-1"),
        ({"resultType": "task", "taskId": "t-1"}, "t-1"),
        ({"taskId": "t-1", "status": "working"}, None),
        ({"resultType": "task"}, None),
        ({"task": {"taskId": 5}}, None),
        ({"task": "t-1"}, None),
        ({"content": []}, None),
    ],
)
def test_a_result_that_is_a_task_in_either_form_names_it(result, found) -> None:
    assert made_task(result) == found


def test_a_list_holds_the_callers_own_tasks_and_the_servers_cursor(tasks) -> None:
    listed = [{"taskId": "t-1"}, {"taskId": "t-2"}, {"taskId": None}, "t-1"]
    shown = filter_tasks({"tasks": listed, "nextCursor": "c"}, lambda one: tasks.owns(MINE, one))
    assert shown == {"tasks": [{"taskId": "t-1"}], "nextCursor": "c"}
    assert filter_tasks({"tasks": "all"}, lambda _: True) == {"tasks": []}


@given(st.lists(st.integers(0, MAX_TASKS + 50), max_size=40))
def test_memory_is_bounded_and_nobody_pushes_out_what_belongs_to_another(numbers) -> None:
    tasks = Tasks()
    other = OTHERS["another subject"]
    tasks.give(other, "theirs", REFUND)
    for number in [*range(MAX_TASKS), *numbers]:
        tasks.give(MINE, f"t-{number}", REFUND)
    assert sum(tasks.owns(MINE, f"t-{number}") for number in range(MAX_TASKS + 51)) <= MAX_TASKS
    assert tasks.owns(other, "theirs")
