"""Many needles and words in one pass find what each alone would find."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from coatcheck.vault.patterns import Needle
from coatcheck.vault.search import FEW, NeedleSearch, WordSearch
from coatcheck.vault.words import Word

LETTERS = st.text("ab", min_size=8, max_size=40).map(str.encode)


@settings(max_examples=100, deadline=None)
@given(st.lists(LETTERS, min_size=FEW + 1, max_size=FEW + 12), st.lists(st.integers(0, 40), max_size=6), LETTERS)
def test_many_needles_are_found_as_one_by_one(texts: list[bytes], used: list[int], noise: bytes) -> None:
    needles = [Needle.of(text, "raw") for text in texts]
    data = noise + b"c".join(texts[n % len(texts)] + noise[: n % 9] for n in used)
    found = set(NeedleSearch(needles).find_all(data))
    expected = {
        (which, at, at + len(text))
        for which, text in enumerate(texts)
        for at in range(len(data))
        if data.startswith(text, at)
    }
    assert found == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(LETTERS, min_size=1, max_size=6), st.integers(0, 9), st.integers(0, 39))
def test_many_words_are_found_as_one_by_one(values: list[bytes], which: int, at: int) -> None:
    value = values[which % len(values)]
    at %= len(value)
    data = b"a" + value[:at] + b"%%%02X" % value[at] + value[at + 1 :] + b"b\\u0061&#98;"
    together = {(start, end, values[n]) for n, start, end in WordSearch([*map(Word, values)]).find_all(data)}
    alone = {(start, end, one) for one in values for _, start, end in WordSearch([Word(one)]).find_all(data)}
    assert together == alone
    assert (1, len(value) + 3, value) in together


def test_a_beginning_that_all_share_is_not_what_they_are_filed_under() -> None:
    texts = [b"sk-live-" + hashlib.sha256(b"%d" % n).hexdigest()[:32].encode() for n in range(50)]
    search = NeedleSearch([Needle.of(text, "raw") for text in texts])
    assert list(search.find_all(b"sk-live-" * 10_000)) == []
    assert max(map(len, search._filed.values())) < 5
    assert {which for which, _, _ in search.find_all(b"sk-live-" + b" ".join(texts))} == set(range(50))


def test_escapes_that_stand_in_no_word_like_that_cost_no_look_at_it(monkeypatch) -> None:
    looks = []
    around = Word.around
    monkeypatch.setattr(Word, "around", lambda *args: looks.append(args) or around(*args))
    search = WordSearch([Word(b"sk-live-a1b2c3d4")])
    assert list(search.find_all(b"&#97;" * 1000 + rb"\u0061" * 1000 + b"%61%63" * 1000)) == []
    assert looks == []
    assert [found[1:] for found in search.find_all(b"..sk-live-&#97;1b2c3d4")] == [(2, 22)]
    assert [found[1:] for found in search.find_all(b"sk-live-&#971b2c3d4 sk-live-&#97;1&#98;2c3d4")] == [
        (0, 19), (20, 44),
    ]  # fmt: skip
    assert looks
