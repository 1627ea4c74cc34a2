from mcp_types import methods as sdk
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

from coatcheck.mcp.methods import FIRST_STATELESS, METHODS, VERSIONS, is_notification


def test_the_versions_are_those_of_the_official_sdk():
    assert VERSIONS == KNOWN_PROTOCOL_VERSIONS
    assert FIRST_STATELESS in VERSIONS


def test_every_method_of_the_official_sdk_is_known_with_its_sender():
    for table, sender in ((sdk.CLIENT_REQUESTS, "client"), (sdk.SERVER_REQUESTS, "server")):
        assert {METHODS[method].sender for method, _ in table} <= {sender, "both"}
    for table, sender in ((sdk.CLIENT_NOTIFICATIONS, "client"), (sdk.SERVER_NOTIFICATIONS, "server")):
        assert {METHODS[method].sender for method, _ in table} <= {sender, "both"}


def test_a_method_is_a_notification_by_its_name_alone():
    assert all(is_notification(name) == (method.form == "notification") for name, method in METHODS.items())


def test_the_mirrored_methods_are_those_that_the_sdk_mirrors():
    from mcp.shared.inbound import NAME_BEARING_METHODS

    assert {name: method.param for name, method in METHODS.items() if method.mirrored} == dict(NAME_BEARING_METHODS)
