"""The schema for editors is kept true: by the examples, and by what the loader's own forms know."""

import importlib
import pkgutil
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import coatcheck.policy
from coatcheck.policy import shape
from coatcheck.policy.load import load_policy
from coatcheck.policy.read_values import read_json_object
from coatcheck.policy.schema import json_schema, schema_text
from coatcheck.policy.shape import Findings
from coatcheck.policy.source import read_source
from coatcheck_cli.policy import policy

POLICIES = Path(__file__).parents[2] / "policies"
FILES = sorted(file for file in POLICIES.rglob("*.y*ml") if ".test." not in file.name)
SECTIONS = ("issuers", "identities", "reviewers", "servers", "rules", "masks")
VALIDATOR = jsonschema.Draft7Validator(json_schema())


def data_of(text):
    fields, problems = read_source(text.encode(), "p.yaml")
    assert not problems
    return read_json_object(fields, Findings(), what="a policy")


def complaints(text):
    return [error.message for error in VALIDATOR.iter_errors(data_of(text))]


def form_of(section):
    found = json_schema()["properties"][section]
    return found.get("items") or found.get("additionalProperties") or found


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(json_schema())


def test_the_file_that_ships_is_what_the_command_prints():
    shipped = (POLICIES / "schema.json").read_text()
    assert shipped == schema_text(), "run: coatcheck policy schema > policies/schema.json"
    assert CliRunner().invoke(policy, ["schema"]).stdout == shipped


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_accepts_every_policy_that_ships(file):
    assert complaints(file.read_text()) == []


def test_it_accepts_a_whole_policy(draft):
    draft.load()
    assert complaints(draft.text) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    tools: [merge", "    tool: [merge"),
        ("  hold: 30s", "  holt: 30s"),
        ("    owner:", "    woner:"),
        ("    leeway:", "    leway:"),
        ("    credential:", "    credentials:"),
        ("    detect:", "    detects:"),
        ("rules:", "rulse:"),
        ("sre: {issuer: corp, claims", "sre: {issuer: corp, claim"),
        ("effect: allow", "effect: permit"),
        ("hold: 30s", "hold: 30"),
        ("tunnel: true", "tunnel: on"),
        ("quorum: 2", "quorum: 0"),
        ("expires: 15m", "expires: 15 m"),
        ("who: [group:ci]", "who: []"),
        ("who: [group:ci]", "who: group:ci"),
        ("    reviewers: [sre]\n", ""),
        ("    effect: allow\n", "    effect: allow\n    reviewers: [sre]\n"),
        ("    tools: [merge_pull_request]\n", ""),
        ("  audience: https://gateway.example.com\n", ""),
        ("algorithms: [ES256, RS256]", "algorithms: [HS256]"),
        ("desk: {local: [root, oncall]}", "desk: {local: [root], mitmweb: x}"),
        ("detect: [email, credit-card, iban]", "detect: [e-mail]"),
        ("as: partial", "as: stars"),
        ("coatcheck: 1", "coatcheck: 2"),
        ("servers:\n  github:", "servers:\n  any:"),
    ],
)
def test_what_the_form_of_a_policy_forbids_the_schema_refuses_too(draft, old, new):
    text = draft.edited(old, new)
    assert draft.faults(text)
    assert complaints(text)


@pytest.fixture
def forms(monkeypatch):
    """Every form the loader reads: the name it gives it, required and optional keys."""
    found = []

    def noted(node, findings, *, required=(), optional=(), what):
        found.append((what, set(required), {*required, *optional}))
        return real(node, findings, required=required, optional=optional, what=what)

    real = shape.read_form
    for module in pkgutil.iter_modules(coatcheck.policy.__path__, "coatcheck.policy."):
        loaded = importlib.import_module(module.name)
        if hasattr(loaded, "read_form"):
            monkeypatch.setattr(loaded, "read_form", noted)
    return found


def test_its_keys_are_the_loaders(draft, forms):
    """A key that is new in the loader is described in `policy/schema.py`."""
    draft.load()
    draft.faults(draft.edited("issuers:\n", "issuers:\n  idp: {issuer: 'urn:idp', saml: {certificate: ca.pem}}\n"))
    kinds = {"issuer": "issuers", "identity": "identities", "reviewer": "reviewers", "server": "servers"}
    seen = set()
    for what, required, known in forms:
        kind = what.removeprefix("a ").partition(" ")[0]
        section = {"policy": None, "rule": "rules", "mask": "masks", **kinds}.get(kind, kind)
        nested = form_of("issuers")["properties"].get(section)
        form = nested or (form_of(section) if section else json_schema())
        assert known == set(form["properties"]), what
        assert required == set(form.get("required", ())), what
        seen.add(section)
    assert seen == {None, "gateway", "saml", *SECTIONS}


def test_the_fixture_sees_what_the_loader_reads(forms):
    load_policy(POLICIES / "default.yaml")
    assert [what for what, _, _ in forms] == ["a policy file", "gateway"]


def test_every_key_says_what_it_is():
    for section in ("gateway", *SECTIONS):
        for key, said in form_of(section)["properties"].items():
            assert said.get("description"), f"{section}.{key}"
