"""Paths and queries that would mean something else to a server, or say too much to a reader of the recording.

Law: a path means the same to a server that decodes it once and to one that decodes it twice.
Law: a query's values that carry credentials are not recorded; its names and its order are.
"""

import re

from coatcheck.errors import Refusal

_ENCODED_TWICE = re.compile(r"%(?:25)+(?:[01][0-9a-f]|2[ef]|2[35]|3[bf]|5c|7f)", re.IGNORECASE)
_CREDENTIALS = frozenset(
    {
        "accesstoken", "idtoken", "refreshtoken", "authtoken", "sessiontoken", "securitytoken", "token", "bearer",
        "jwt", "auth", "authorization", "apikey", "apisecret", "appkey", "key", "privatekey", "accesskey", "secretkey",
        "accesskeyid", "subscriptionkey", "secret", "clientsecret", "clientassertion", "assertion", "samlresponse",
        "password", "passwd", "passwort", "pwd", "pass", "passphrase", "credential", "credentials", "signature", "sig",
        "sign", "code", "codeverifier", "devicecode", "otp", "pin", "ticket", "session", "sessionid", "sid", "hmac",
    }
)  # fmt: skip
"""Names as they are compared: lower case, letters and digits alone."""
_PREFIXES = ("xamz", "xgoog", "xms", "xoss", "xcos")
"""Of presigned URLs, without their dashes."""
_SIGNING = ("signature", "credential", "token", "key")
_PLACEHOLDER = re.compile(r"coat_[a-z0-9_]{1,64}")
_NOT_NAME = re.compile(r"%[0-9a-f]{2}|[^a-z0-9]")


def check_path(path: str) -> None:
    """Raises `Refusal` (400) for an encoded dot, slash, backslash, control or separator whose `%` is encoded again."""
    if _ENCODED_TWICE.search(path):
        raise Refusal("bad-path", "the path has an encoding within an encoding")


def starred(target: str) -> str:
    """A path with its query (or a URL), the values of parameters that carry credentials as `***`.

    A coatcheck placeholder is harmless and stays.
    """
    path, mark, query = target.partition("?")
    if not mark:
        return target
    return path + mark + re.sub(r"[^&;]+", lambda found: _starred(found[0]), query)


def _starred(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals or not value or _PLACEHOLDER.fullmatch(value) or not _carries_credential(name):
        return parameter
    return f"{name}=***"


def _carries_credential(name: str) -> bool:
    plain = _NOT_NAME.sub("", _decoded(name).lower())
    if plain in _CREDENTIALS or plain.endswith(("token", "secret", "password", "apikey", "signature")):
        return True
    return plain.startswith(_PREFIXES) and plain.endswith(_SIGNING)


def _decoded(name: str) -> str:
    """The name with its percent-encoded ASCII read: a server reads `%74oken` as `token`."""
    return re.sub(r"%([2-7][0-9A-Fa-f])", lambda found: chr(int(found[1], 16)), name)
