"""Output quality: numbers by hand."""

import gzip
import math

import pytest

from harness import quality


def test_repetition_by_hand():
    # a b a b a b: the 3-grams aba bab aba bab, two of four unique
    assert quality.repetition(list("ababab"), 3) == 0.5
    assert quality.repetition(list("abcdef"), 3) == 0
    assert math.isnan(quality.repetition(list("ab"), 3))
    assert quality.repetition(list("abc"), 3) == 0


def test_words_of_any_script():
    assert quality.words("No, no. 2nd!") == ["no", ",", "no", ".", "2nd", "!"]
    assert quality.words("甲公司 Ltd") == ["甲", "公", "司", "ltd"]
    assert quality.measure("好好好好好", (), True)["rep3_word"] == pytest.approx(2 / 3)


def test_words_and_tokens_repeat_apart():
    found = quality.measure("a b c d", [7, 7, 7, 7], True)
    assert (found["rep3_word"], found["rep3_token"]) == (0, 0.5)


def test_distinct_2_is_taken_over_the_same_length_everywhere():
    units = [str(n % 4) for n in range(20)]
    assert quality.distinct2(units) == pytest.approx(4 / 19)
    assert quality.distinct2(units * 3) == quality.distinct2(units)
    assert math.isnan(quality.distinct2(units[:19]))


def test_compression_is_gzip_over_raw():
    text = "the same words " * 20
    assert quality.compression(text) == len(gzip.compress(text.encode(), mtime=0)) / 300
    assert quality.compression(text) < 0.2
    assert math.isnan(quality.compression("short"))


def test_length_and_stop():
    found = quality.measure("a b", [5, 6, 7], False)
    assert (found["length_tokens"], found["no_stop"]) == (3, 1)
    assert quality.measure("a b", [5, 6, 7], True)["no_stop"] == 0
    assert set(found) == set(quality.METRICS)


def test_an_empty_answer_has_no_repetition_to_speak_of():
    found = quality.measure("", [], True)
    assert all(math.isnan(found[name]) for name in ("rep3_word", "rep3_token", "rep4_word", "distinct2_word", "compression"))
    assert found["length_tokens"] == 0
