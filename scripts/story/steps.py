"""The steps of the demonstration, in the order they are played.

Law: a step returns its evidence as one line, or raises `StoryError`.
"""

import json
import re
import shutil
from collections.abc import Callable, Sequence

from story.cast import Outcome
from story.part import StoryError
from story.processes import run_cli
from story.scene import Scene
from story.shop import EVENTS, personal_data

type Step = Callable[[Scene], str]


def expect(holds: object, what: str) -> None:
    """Raises `StoryError` with `what` unless `holds`."""
    if not holds:
        raise StoryError(what)


def answered(outcome: Outcome) -> Outcome:
    """The outcome, which must be a result."""
    expect(outcome.result is not None, f"no result, but {outcome.text.strip()[-500:]}")
    return outcome


def refused(outcome: Outcome, code: int) -> dict[str, object]:
    """The `data` of the JSON-RPC error the outcome must be."""
    expect(outcome.error is not None and outcome.error["code"] == code, f"no error {code}, but {outcome.text[-500:]}")
    data = (outcome.error or {}).get("data")
    return data if isinstance(data, dict) else {}


def no_token(scene: Scene) -> str:
    """A pipeline without a token gets nowhere."""
    outcome = scene.pipeline("list", token="")
    expect(outcome.result is None and "407" in outcome.text, f"not refused: {outcome.text[-500:]}")
    expect(not scene.cast.executed(), "the shop executed something")
    return (outcome.failed or outcome.text).strip()


def wrong_audience(scene: Scene) -> str:
    """A good token for somebody else is no token."""
    outcome = scene.pipeline("list", token=scene.cast.token(audience="https://another.example"))
    data = refused(outcome, 4010)
    expect(not scene.cast.executed(), "the shop executed something")
    return f"4010 {data.get('reason')}: {data.get('message')}"


def filtered_list(scene: Scene) -> str:
    """The list holds what the identity may call, and no more."""
    names = answered(scene.pipeline("list")).result
    expect(isinstance(names, list) and "get_order" in names, "get_order is missing from the list")
    expect(isinstance(names, list) and "delete_order" not in names, "delete_order is in the list")
    return f"{', '.join(sorted(map(str, names if isinstance(names, list) else [])))}; not delete_order"


def swapped_credential(scene: Scene) -> str:
    """The shop sees the real credential, the caller never does."""
    outcome = answered(scene.pipeline("call", "get_order", '{"order_id": "A-1003"}'))
    (call,) = scene.ran("get_order")
    expect(call["authorization_ok"], "the shop did not see its credential")
    expect("A-1003" in outcome.text, "not the order that was asked for")
    scene.search("the caller's answer", outcome.text.encode())
    shown = json.loads(scene.cli("vault", "list", "--json"))
    return f"the shop saw its real credential; callers know it as {shown[0]['placeholder']}"


def starred_echo(scene: Scene) -> str:
    """A server that echoes the secret echoes stars."""
    outcome = answered(scene.pipeline("whoami"))
    expect(scene.ran("whoami")[-1]["authorization_ok"], "the shop did not see its credential")
    scene.search("the caller's answer", outcome.text.encode())
    echo = re.search(r'"authorization": ?"(Bearer \*+)"', outcome.text)
    expect(echo, "no starred echo in the answer")
    for encoding in ("base64", "hex"):
        encoded = answered(scene.pipeline("call", "whoami", json.dumps({"encoding": encoding})))
        scene.search(f"the answer in {encoding}", encoded.text.encode())
    return f"{echo[1] if echo else ''}, in base64 and hex as well"


def streamed_export(scene: Scene) -> str:
    """Events arrive as they are sent, with the personal data out of them."""
    outcome = answered(scene.pipeline("export"))
    times = [event.at for event in outcome.events]
    expect(len(times) == EVENTS, f"{len(times)} events, not {EVENTS}")
    spread = times[-1] - times[0]
    expect(spread > 0.5, f"all events arrived within {spread:.2f} s: they were held back")
    leaked = [value for value in personal_data() if value in outcome.text]
    expect(not leaked, f"{len(leaked)} values of personal data came through")
    return f"{EVENTS} events over {spread:.2f} s, such as {outcome.events[0].text!r}"


def denied_delete(scene: Scene) -> str:
    """A denial names its rule and says why."""
    data = refused(scene.pipeline("call", "delete_order", '{"order_id": "A-1003"}'), 4030)
    expect(data.get("rule") == "nobody-deletes", f"not by the rule: {data}")
    expect(not scene.ran("delete_order"), "the shop deleted it all the same")
    return f"4030 by {data['rule']}: {data['message']}"


def approved_refund(scene: Scene) -> str:
    """A held call waits for its reviewer and runs once."""
    pipeline = scene.start("call", "refund_order", '{"order_id": "A-1004", "amount": 500}')
    approval = scene.wait_for_approval("A-1004")
    expect(pipeline.is_running and not scene.ran("refund_order"), "it did not wait")
    scene.cli("approvals", "approve", approval, "--policy", str(scene.cast.policy))
    answered(pipeline.finish())
    again = run_cli(
        "approvals", "approve", approval, "--state", str(scene.cast.state), "--policy", str(scene.cast.policy)
    )
    expect(again.returncode == 1, "it could be approved twice")
    expect(len(scene.ran("refund_order")) == 1, f"executed {len(scene.ran('refund_order'))} times")
    return f"held as {approval}, listed, approved by the desk, executed once"


def denied_refund(scene: Scene) -> str:
    """A reviewer's no is the end of the call."""
    pipeline = scene.start("call", "refund_order", '{"order_id": "A-1005", "amount": 900}')
    approval = scene.wait_for_approval("A-1005")
    scene.cli("approvals", "deny", approval, "--policy", str(scene.cast.policy), "--reason", "too much")
    data = refused(pipeline.finish(), 4031)
    expect(len(scene.ran("refund_order")) == 1, "the shop executed it")
    return f"4031 for {data.get('approval')}, not executed"


def clean_console(scene: Scene) -> str:
    """While a call is in flight, mitmweb knows the placeholder at most."""
    pipeline = scene.start("call", "slow", '{"seconds": 4}')
    scene.gateway.wait_for(lambda: bool(scene.ran("slow")), within_seconds=20)
    flows = scene.flows()
    expect(pipeline.is_running, "the slow call had ended before mitmweb was asked")
    expect(b"slow" in flows, "mitmweb does not show the call")
    scene.search("mitmweb's flows", flows)
    answered(pipeline.finish())
    expect(scene.ran("slow")[-1]["authorization_ok"], "the shop did not see its credential")
    return f"{len(flows)} bytes of /flows with a call in flight, no canary in them"


def replayed_session(scene: Scene) -> str:
    """What was recorded can be held again and gives the same answers."""
    token = scene.cast.token()
    answered(scene.pipeline("call", "get_order", '{"order_id": "A-1006"}', token=token))
    newest = json.loads(scene.cli("sessions", "list", "--json"))[0]
    proxy = f"127.0.0.1:{scene.gateway.port}"
    arguments = ("sessions", "replay", newest["id"], "--proxy", proxy, "--token-file", "-", "--tool", "get_order")
    before = len(scene.ran("get_order"))
    replayed = json.loads(scene.cli(*arguments, "--json", stdin=scene.cast.token()))
    same = [item for item in replayed if item["same"]]
    expect(len(scene.ran("get_order")) == before + 1, "the shop did not see the call again")
    expect(same and all(item["same"] is not False for item in replayed), f"answers differ: {replayed}")
    return f"session {newest['id']}: {len(same)} exchanges sent again, the same answers"


def orderly_end(scene: Scene) -> str:
    """SIGTERM ends the gateway with everything written."""
    code = scene.gateway.stop()
    return f"exit code {code}"


def verified_journal(scene: Scene) -> str:
    """The journal is whole; one flipped byte is found and located."""
    good = scene.cli("journal", "verify").strip()
    copy = scene.cast.folder / "tampered"
    shutil.copytree(scene.cast.state, copy)
    copy.chmod(0o700)
    (file,) = (copy / "journal").glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    line = len(lines) // 2
    at = lines[line].index(b'"kind"') + 9
    flipped = bytes([lines[line][at] ^ 1])
    lines[line] = lines[line][:at] + flipped + lines[line][at + 1 :]
    file.write_bytes(b"".join(lines))
    found = run_cli("journal", "verify", "--state", str(copy))
    first = (found.stderr or found.stdout).splitlines()[0]
    expect(found.returncode == 1, "a flipped byte was not found")
    expect(f"{file.name}:{line + 1}" in first, f"the flipped byte is in line {line + 1}, but: {first}")
    return f"{good}; with a byte flipped, {first}"


def clean_disk(scene: Scene) -> str:
    """Neither the secret nor masked data nor the token stands in the state or in any output."""
    files = [path for path in scene.cast.state.rglob("*") if path.is_file()]
    for path in [*files, scene.gateway.output]:
        scene.search(path.name, path.read_bytes())
    return f"{len(files)} files of state and {scene.gateway.output.stat().st_size} bytes of output, no canary in them"


STEPS: Sequence[tuple[str, Step]] = (
    ("no token is refused", no_token),
    ("a token for another audience is refused", wrong_audience),
    ("the list shows only what the identity may call", filtered_list),
    ("a call works with a credential the caller does not hold", swapped_credential),
    ("an echoed secret comes back starred", starred_echo),
    ("a stream arrives event by event, masked", streamed_export),
    ("a forbidden call is denied with rule and message", denied_delete),
    ("a refund is held, approved, executed exactly once", approved_refund),
    ("a second refund is denied by the reviewer", denied_refund),
    ("mitmweb shows no secret while a call is in flight", clean_console),
    ("the session replays", replayed_session),
    ("the gateway ends in good order", orderly_end),
    ("the journal verifies, and a flipped byte is located", verified_journal),
    ("no canary stands in the state or the output", clean_disk),
)
