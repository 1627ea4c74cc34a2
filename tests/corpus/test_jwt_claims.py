"""A token counts for this gateway, now, for one subject, with claims of the types the policy speaks of."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from ground import AUDIENCE
from tokens import Party, accepted, refused, running

from story.processes import run_cli

pytestmark = [pytest.mark.e2e, pytest.mark.corpus]

MALFORMED = "token-malformed"


@pytest.fixture(scope="module")
def parties():
    with Party() as plain, Party() as lenient, Party() as grouped:
        yield {"plain": plain, "lenient": lenient, "grouped": grouped}


@pytest.fixture(scope="module")
def ground(place, parties):
    with running(place, parties, lenient="leeway: 30s", grouped="groups: org.roles") as ground:
        yield ground


AUDIENCES = {
    "missing": (..., "claim-missing"),
    "null": (None, "claim-missing"),
    "an empty list": ([], "wrong-audience"),
    "a number": (5, MALFORMED),
    "an object": ({AUDIENCE: 1}, MALFORMED),
    "true": (True, MALFORMED),
    "a list with a number": ([AUDIENCE, 5], MALFORMED),
    "a list in a list": ([[AUDIENCE]], MALFORMED),
}


@pytest.mark.attack("JWT-14")
@pytest.mark.parametrize("name", AUDIENCES)
def test_a_token_without_a_proper_audience_is_refused(ground, parties, name) -> None:
    audience, reason = AUDIENCES[name]
    accepted(ground, parties["plain"].token(aud=[AUDIENCE]))
    accepted(ground, parties["plain"].token(aud=["https://else.example", AUDIENCE]))
    accepted(ground, parties["plain"].token(aud=[AUDIENCE, AUDIENCE]))
    refused(ground, parties["plain"].token(aud=audience), reason)


@pytest.mark.attack("JWT-16", "JWT-17")
@pytest.mark.parametrize(
    "audience",
    [
        f"{AUDIENCE}/",
        f"{AUDIENCE} ",
        f" {AUDIENCE}",
        AUDIENCE.upper(),
        AUDIENCE.replace("https", "HTTPS"),
        AUDIENCE.replace("https", "http"),
        f"{AUDIENCE}:443",
        f"{AUDIENCE}/mcp",
        AUDIENCE[:-1],
        f"{AUDIENCE}.evil.example",
        f"{AUDIENCE}\0",
        "https://gateway-2.shop.example",
        AUDIENCE.replace("g", "\u0261", 1),
        AUDIENCE.replace(":", "\uff1a"),
        AUDIENCE.replace("e", "e\u0301"),
        "gateway",
        "*",
        "",
    ],
)
def test_an_audience_is_this_gateways_to_the_letter(ground, parties, audience) -> None:
    accepted(ground, parties["plain"].token())
    refused(ground, parties["plain"].token(aud=audience), "wrong-audience")


@pytest.mark.attack("JWT-17")
@pytest.mark.parametrize(
    "audience", ["gateway", "api", "mcp", "https", "urn:gateway", "coatcheck", "http://gateway.dev"]
)
def test_a_policy_with_an_audience_that_others_have_too_does_not_load(place, audience) -> None:
    def check(name: str) -> int:
        policy = place.folder / "audience.yaml"
        policy.write_text(place.policy_text(audience=name))
        return run_cli("policy", "check", "--policy", str(policy)).returncode

    assert check(AUDIENCE) == 0
    assert check(audience) == 1


@pytest.mark.attack("JWT-19")
@pytest.mark.parametrize("change", ["/", "\0", " ", ".evil.example", "?", "#", "\u200b", "upper"])
def test_an_issuer_is_the_policys_to_the_letter(ground, parties, change) -> None:
    url = parties["plain"].url
    accepted(ground, parties["plain"].token())
    refused(ground, parties["plain"].token(iss=url.upper() if change == "upper" else url + change), "wrong-issuer")


ISSUERS = {"missing": ..., "null": None, "a list": ["x"], "a number": 5}


@pytest.mark.attack("JWT-19")
@pytest.mark.parametrize("name", ISSUERS)
def test_a_token_without_a_proper_issuer_is_refused(ground, parties, name) -> None:
    accepted(ground, parties["plain"].token())
    refused(ground, parties["plain"].token(iss=ISSUERS[name]), {"claim-missing", MALFORMED})


@pytest.mark.attack("JWT-20")
@pytest.mark.parametrize("exp", [..., None])
def test_a_token_that_does_not_say_when_it_ends_is_refused(ground, parties, exp) -> None:
    accepted(ground, parties["plain"].token())
    refused(ground, parties["plain"].token(exp=exp), {"claim-missing", MALFORMED})


TIMES = ["NaN", "Infinity", "-Infinity", "1e400", "1e10", "true", "[9999999999]", '"9999999999"', "9999999999.5", "{}"]


@pytest.mark.attack("JWT-22")
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", TIMES)
def test_a_time_that_is_no_whole_number_of_seconds_is_refused(ground, parties, claim, value) -> None:
    payload = json.dumps(parties["plain"].claims(**{claim: "TIME"}))
    now = int(time.time()) + (60 if claim == "exp" else -60)
    accepted(ground, parties["plain"].raw(payload=payload.replace('"TIME"', str(now))))
    refused(ground, parties["plain"].raw(payload=payload.replace('"TIME"', value)), MALFORMED)


@pytest.mark.attack("JWT-22")
@pytest.mark.parametrize("exp", ["-1", "0", "-0", "1" * 18, "9" * 19, "9" * 3000])
def test_a_time_out_of_this_world_is_refused(ground, parties, exp) -> None:
    payload = json.dumps(parties["plain"].claims(exp="TIME")).replace('"TIME"', exp)
    accepted(ground, parties["plain"].token())
    refused(ground, parties["plain"].raw(payload=payload), {MALFORMED, "token-expired", "lifetime-too-long"})


@pytest.mark.attack("JWT-23")
@pytest.mark.parametrize(("party", "age"), [("plain", 0), ("plain", 1), ("lenient", 31), ("lenient", 300)])
def test_a_token_that_has_ended_is_refused(ground, parties, party, age) -> None:
    now = int(time.time())
    accepted(ground, parties[party].token(exp=now + 60))
    for kind in ("proxy", "tunnel"):
        accepted(ground, parties["lenient"].token(exp=int(time.time()) - 1), kind=kind)
    refused(ground, parties[party].token(exp=int(time.time()) - age), "token-expired")


@pytest.mark.attack("JWT-23")
@pytest.mark.parametrize(("leeway", "status"), [("0s", 0), ("60s", 0), ("61s", 1), ("1h", 1), ("-1s", 1)])
def test_a_policy_forgives_clocks_a_minute_at_most(place, leeway, status) -> None:
    policy = place.folder / "leeway.yaml"
    policy.write_text(place.policy_text().replace("algorithms: [ES256]", f"algorithms: [ES256]\n    leeway: {leeway}"))
    assert run_cli("policy", "check", "--policy", str(policy)).returncode == status


@pytest.mark.attack("JWT-23")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nbf": 60}, "token-not-yet-valid"),
        ({"iat": 120}, "token-not-yet-valid"),
        ({"exp": 90_000}, "lifetime-too-long"),
    ],
)
def test_a_token_that_is_not_valid_yet_or_for_too_long_is_refused(ground, parties, change, reason) -> None:
    now = datetime.now(UTC)
    times = {name: int((now + timedelta(seconds=seconds)).timestamp()) for name, seconds in change.items()}
    accepted(ground, parties["plain"].token(nbf=int(now.timestamp()) - 1))
    refused(ground, parties["plain"].token(**times), reason)


SUBJECTS = {
    "missing": ...,
    "null": None,
    "a number": 5,
    "empty": "",
    "a list": ["job"],
    "4 kB": "x" * 4096,
    "a line": 'job\n{"kind":"forged"}',
    "a return": "job\r",
    "a NUL": "job\0",
    "right to left": "job\u202egnp.exe",
    "no width": "job\u200b",
    "a line separator": "job\u2028",
    "half a character": "job\ud800",
}


@pytest.mark.attack("JWT-28")
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_that_would_not_be_one_line_of_a_log_is_refused(ground, parties, name) -> None:
    before = len(ground.journal())
    accepted(ground, parties["plain"].token(sub="système:serviceaccount:ns:é"))
    refused(ground, parties["plain"].token(sub=SUBJECTS[name]), {MALFORMED, "claim-missing"})
    assert "forged" not in {record["kind"] for record in ground.journal()[before:]}
    verified = run_cli("journal", "verify", "--state", str(ground.state))
    assert verified.returncode == 0, verified.stderr


ROLES = {
    "a string": {"roles": "ci"},
    "a string that holds it": {"roles": "aci"},
    "a nested list": {"roles": [["ci"]]},
    "an object": {"roles": {"ci": True}},
    "a list of objects": {"roles": [{"name": "ci"}]},
    "a list with a number": {"roles": ["ci", 5]},
    "another case": {"roles": ["CI"]},
    "empty": {"roles": []},
    "null": {"roles": None},
    "not there": {},
    "a list around": [{"roles": ["ci"]}],
}


@pytest.mark.attack("JWT-29")
@pytest.mark.parametrize("name", ROLES)
def test_groups_that_are_not_a_list_of_names_are_no_groups(ground, parties, name) -> None:
    accepted(ground, parties["grouped"].token(org={"roles": ["other", "ci"]}))
    refused(ground, parties["grouped"].token(org=ROLES[name]), "policy-denied", status=403)


@pytest.mark.attack("JWT-29")
@pytest.mark.parametrize("value", [74627617, True, {"id": "74627617"}, [["74627617"]], "746276170", "", None])
def test_a_claim_of_another_type_or_value_is_nobodys(ground, parties, value) -> None:
    accepted(ground, parties["plain"].token())
    refused(ground, parties["plain"].token(repository_id=value), "unknown-identity", status=403)
