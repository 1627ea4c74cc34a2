"""Tests of story/demo.py, scene.py and steps.py that need no gateway."""

import base64

import pytest

from story.cast import Cast, Outcome
from story.demo import play
from story.part import StoryError
from story.scene import Scene
from story.shop import personal_data
from story.steps import STEPS, answered, expect, refused


@pytest.fixture
def scene(cast: Cast) -> Scene:
    return Scene(cast)


@pytest.mark.parametrize("offset", range(4))
def test_the_secret_is_found_however_it_is_written(scene: Scene, offset: int):
    secret = b"x" * offset + scene.cast.credential.encode() + b"y"
    for written in (secret, base64.b64encode(secret), secret.hex().encode()):
        with pytest.raises(StoryError, match="the secret"):
            scene.search("a file", b"before " + written + b" after")
    scene.search("a file", b"before " + b"*" * len(secret) + b" coat_shop_key after")


def test_personal_data_and_the_token_are_found(scene: Scene):
    for value, name in ((personal_data()[7], "personal data"), (scene.token, "the caller's token")):
        with pytest.raises(StoryError, match=f"{name} stands in a file") as found:
            scene.search("a file", f"<{value}>".encode())
        assert value not in str(found.value)


def test_the_first_broken_step_ends_the_play(scene: Scene, capsys: pytest.CaptureFixture[str]):
    def broken(_scene: Scene) -> str:
        raise StoryError("seen otherwise")

    steps = [("one", lambda _: "seen"), ("two", broken), ("three", lambda _: "seen")]
    assert play(scene, steps) == 1
    out = capsys.readouterr().out
    assert "held  1. one: seen" in out
    assert "BROKEN  2. two: seen otherwise" in out
    assert "three" not in out


def test_all_held_steps_are_counted(scene: Scene):
    assert play(scene, [("one", lambda _: "seen")] * 3) == 3


def test_an_outcome_is_what_a_step_expects_or_breaks_it():
    denied = Outcome((), error={"code": 4030, "message": "no", "data": {"rule": "r"}}, text="{}")
    assert refused(denied, 4030) == {"rule": "r"}
    with pytest.raises(StoryError):
        refused(denied, 4031)
    with pytest.raises(StoryError):
        answered(denied)
    assert answered(Outcome((), result=[1])).result == [1]
    expect(holds=True, what="fine")


def test_every_step_has_a_title_of_its_own():
    titles = [title for title, _ in STEPS]
    assert len(set(titles)) == len(titles) == 14
