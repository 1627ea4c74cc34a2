"""JSON Schemas in a message: definitions of data, not data.

Law: what a schema accepts never changes. Only what people read in it does: titles and descriptions.
"""

from collections.abc import Callable

from coatcheck.mcp.call import Json

_TEXTS = frozenset({"title", "description"})
_VALUES = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords whose value is compared or shown as it stands, so a `description` in it is none of the schema's."""
_BY_NAME = frozenset({"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"})
"""Keywords that hold schemas by names of somebody's choice: there `title` is a property, not the schema's title."""


def with_texts(schema: Json, change: Callable[[str], str]) -> Json:
    """`schema` with `change` made to the title and description of every schema in it (JSON Schema 2020-12, 9.1).

    An array stands for its elements. The same object comes back when nothing changed.
    """
    if isinstance(schema, list):
        elements = [with_texts(element, change) for element in schema]
        return schema if all(new is old for new, old in zip(elements, schema, strict=True)) else elements
    if not isinstance(schema, dict):
        return schema
    return _with_members(schema, lambda keyword, value: _with_keyword(keyword, value, change))


def _with_keyword(keyword: str, value: Json, change: Callable[[str], str]) -> Json:
    if keyword in _TEXTS and isinstance(value, str):
        return change(value)
    if keyword in _BY_NAME and isinstance(value, dict):
        return _with_members(value, lambda _name, schema: with_texts(schema, change))
    return value if keyword in _VALUES else with_texts(value, change)


def _with_members(value: dict[str, Json], change: Callable[[str, Json], Json]) -> dict[str, Json]:
    members = {name: change(name, member) for name, member in value.items()}
    return value if all(members[name] is member for name, member in value.items()) else members
