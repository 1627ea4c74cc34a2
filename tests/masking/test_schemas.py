import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from coatcheck.masking.schemas import with_texts

PERSON = {
    "type": "object",
    "title": "a Person",
    "description": "a person",
    "required": ["title", "ssn"],
    "properties": {
        "title": {"type": "string", "description": "a title", "enum": ["a", "b"]},
        "ssn": {"type": "string", "pattern": "^a", "default": "a", "examples": [{"description": "a"}]},
        "description": {"anyOf": [{"const": {"title": "a"}}, {"$ref": "#/$defs/a"}]},
    },
    "$defs": {"a": {"title": "a", "type": "string"}},
}


def shouted(schema):
    return with_texts(schema, lambda text: text.replace("a", "A"))


def test_only_titles_and_descriptions_of_schemas_change():
    assert shouted(PERSON) == {
        "type": "object",
        "title": "A Person",
        "description": "A person",
        "required": ["title", "ssn"],
        "properties": {
            "title": {"type": "string", "description": "A title", "enum": ["a", "b"]},
            "ssn": {"type": "string", "pattern": "^a", "default": "a", "examples": [{"description": "a"}]},
            "description": {"anyOf": [{"const": {"title": "a"}}, {"$ref": "#/$defs/a"}]},
        },
        "$defs": {"a": {"title": "A", "type": "string"}},
    }


def test_a_schema_without_a_change_is_the_same_object():
    assert with_texts(PERSON, lambda text: text) is PERSON
    assert with_texts([PERSON, True], lambda text: text)[0] is PERSON


@pytest.mark.parametrize("schema", [True, False, None, "a", 5, [], {}])
def test_what_holds_no_text_stays(schema):
    assert shouted(schema) is schema


names = st.sampled_from(["title", "description", "properties", "items", "a", "const", "enum", "$defs"])
texts = st.sampled_from(["a", "b", "ab"])
schemas = st.recursive(
    st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "object", "array"]),
            "title": texts,
            "description": texts,
            "enum": st.lists(texts | st.dictionaries(names, texts, max_size=2), min_size=1, max_size=2),
            "const": texts,
            "items": inner,
            "properties": st.dictionaries(names, inner, max_size=2),
            "$defs": st.dictionaries(names, inner, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
        },
    ),
    max_leaves=6,
)
values = st.recursive(
    texts | st.booleans(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(schemas, values)
def test_what_a_schema_accepts_never_changes(schema, value):
    changed = shouted(schema)
    Draft202012Validator.check_schema(changed)
    assert Draft202012Validator(changed).is_valid(value) == Draft202012Validator(schema).is_valid(value)
