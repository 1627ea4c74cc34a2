import pytest
from click.testing import CliRunner

from coatcheck.errors import CoatcheckError
from coatcheck_cli.mask import mask

POLICY = """\
coatcheck: 1
gateway:
  audience: https://gateway.example.com
servers:
  shop:
    url: https://shop.example.com/mcp
  other:
    url: https://other.example.com/mcp
masks:
  - id: personal-data
    server: shop
    detect: [email]
    as: partial
"""


def run(data, *options):
    result = CliRunner().invoke(mask, ["try", *options], input=data)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_text_is_printed_masked_and_finds_go_to_standard_error():
    result = run("to bob@example.com\n", "--detect", "email", "--as", "partial")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "to b***@e***.com\n", "command-line: 1\n")


def test_json_is_masked_as_json():
    result = run('{"ssn": "123", "id": 1}', "--field", "$..ssn")
    assert result.stdout == '{"ssn":"[redacted]","id":1}\n'


def test_a_message_keeps_what_the_protocol_needs():
    result = run('{"jsonrpc":"2.0","id":"bob@example.com","result":{"m":"bob@example.com"}}', "--detect", "email")
    assert result.stdout == '{"jsonrpc":"2.0","id":"bob@example.com","result":{"m":"[redacted]"}}\n'


def test_input_without_finds_is_printed_as_it_came():
    result = run('{ "a": 1 }\n', "--detect", "iban")
    assert (result.stdout, result.stderr) == ('{ "a": 1 }\n', "nothing found\n")


def test_the_masks_of_a_server_are_taken_from_the_policy(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    given = ["--policy", str(policy), "--server"]
    assert run("bob@example.com", *given, "shop").stdout == "b***@e***.com"
    assert run("bob@example.com", *given, "other").exit_code == 2
    with pytest.raises(CoatcheckError, match="no server 'shopp' in the policy"):
        run("bob@example.com", *given, "shopp")


MISUSE = {
    "nothing to do": [],
    "an unknown detector": ["--detect", "shoe-size"],
    "an unknown form": ["--detect", "email", "--as", "rot13"],
    "a server without a policy": ["--server", "shop"],
}


@pytest.mark.parametrize("options", MISUSE.values(), ids=MISUSE)
def test_misuse_exits_with_2(options, monkeypatch):
    monkeypatch.delenv("COATCHECK_POLICY", raising=False)
    assert run("x", *options).exit_code == 2


def test_a_path_that_cannot_be_followed_is_an_error_with_its_place():
    with pytest.raises(CoatcheckError, match="--field: slices are not supported"):
        run("{}", "--field", "$.a[0:1]")
