"""Output quality: numbers by hand."""

import gzip
import math

import pytest

from harness.text import text_quality


def test_repetition_by_hand():
    # a b a b a b: the 3-grams aba bab aba bab, two of four unique
    assert text_quality.repetition(list("ababab"), 3) == 0.5
    assert text_quality.repetition(list("abcdef"), 3) == 0
    assert math.isnan(text_quality.repetition(list("ab"), 3))
    assert text_quality.repetition(list("abc"), 3) == 0


def test_words_of_any_script():
    assert text_quality.words("No, no. 2nd!") == ["no", ",", "no", ".", "2nd", "!"]
    assert text_quality.words("甲公司 Ltd") == ["甲", "公", "司", "ltd"]
    assert text_quality.measure("好好好好好", (), True)["rep3_word"] == pytest.approx(2 / 3)


def test_words_and_tokens_repeat_apart():
    found = text_quality.measure("a b c d", [7, 7, 7, 7], True)
    assert (found["rep3_word"], found["rep3_token"]) == (0, 0.5)


def test_distinct_2_is_taken_over_the_same_length_everywhere():
    units = [str(n % 4) for n in range(20)]
    assert text_quality.distinct2(units) == pytest.approx(4 / 19)
    assert text_quality.distinct2(units * 3) == text_quality.distinct2(units)
    assert math.isnan(text_quality.distinct2(units[:19]))


def test_compression_is_gzip_over_raw():
    text = "the same words " * 20
    assert text_quality.compression(text) == len(gzip.compress(text.encode(), mtime=0)) / 300
    assert text_quality.compression(text) < 0.2
    assert math.isnan(text_quality.compression("short"))


def test_length_and_stop():
    found = text_quality.measure("a b", [5, 6, 7], False)
    assert (found["length_tokens"], found["no_stop"]) == (3, 1)
    assert text_quality.measure("a b", [5, 6, 7], True)["no_stop"] == 0
    assert set(found) == set(text_quality.METRICS)


def test_an_empty_answer_has_no_repetition_to_speak_of():
    found = text_quality.measure("", [], True)
    assert all(math.isnan(found[name]) for name in ("rep3_word", "rep3_token", "rep4_word", "distinct2_word", "compression"))
    assert found["length_tokens"] == 0


# --- what it says, and several texts together ---


def test_facts_are_numbers_and_content_words_each_once():
    assert text_quality.slots("Sales rose by 12 percent in Elstow.", "In Elstow the sales rose 12 %") == (4, 4)
    assert text_quality.slots("It fell by 13 %.", "The sales rose 12 % in Elstow") == (0, 4)
    assert text_quality.slots("green green green", "green") == (1, 1)
    assert text_quality.slots("甲公司亏损", "甲公司的收入") == (3, 5)
    assert text_quality.slots("anything", "") == (0, 0)


def test_content_words():
    assert text_quality.content_words("The cat, and the 2 dogs!") == ["cat", "2", "dogs"]


def test_a_template_is_common_and_has_both_ends():
    found = text_quality.template(["According to the filing, yes."] * 5 + ["neutral"] * 5 + ["once only here"], least=5)
    assert ("<", "according", "to") in found and ("<", "neutral", ">") in found and ("once", "only", "here") not in found


def test_distinct_is_over_the_corpus_at_one_length():
    assert text_quality.distinct(["a b c d", "a b c e"], 2, first=4) == pytest.approx(4 / 6)
    assert text_quality.distinct(["a b c d x y", "a b c e"], 2, first=4) == pytest.approx(4 / 6)
    assert math.isnan(text_quality.distinct(["a b"], 2, first=4))


def test_self_repetition_by_hand():
    """abcd and bcde: the 4-grams of the second are bcde; cdef. Nothing is shared but where texts are the same."""
    assert text_quality.self_repetition(["a b c d e", "b c d e f", "x"])[:2] == [0.5, 0.5]
    assert math.isnan(text_quality.self_repetition(["a b c d e", "x"])[1])


def test_self_bleu_is_nltks_against_all_others():
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    texts = ["the cat sat on the mat", "the cat sat on a hat", "two dogs ran away from us"]
    words = [text.split() for text in texts]
    wanted = sentence_bleu(words[1:], words[0], smoothing_function=SmoothingFunction().method1)
    assert text_quality.self_bleu(texts)[0] == pytest.approx(wanted)
    assert text_quality.self_bleu(["a b c d e"] * 3) == pytest.approx([1, 1, 1])


def test_zlib_bits_per_token():
    import zlib

    assert text_quality.zlib_bits(["ab", "cd"], 4) == 8 * len(zlib.compress(b"ab\ncd", 9)) / 4
    assert math.isnan(text_quality.zlib_bits([""], 0))
