"""Rewording: the same content in another order, deterministic, each one different."""

import json
from collections import Counter

import pytest

from harness.text.rewordings import rewrites


def test_a_question_goes_behind_what_it_is_about():
    assert rewrites("What is the increase?\nSales now 9, before 8.")[0] == "Sales now 9, before 8.\nWhat is the increase?"


def test_fields_turn_around_and_the_rest_stays():
    assert rewrites("Judge this.\nname: A\nsales: 3\nBe brief.")[0] == "Judge this.\nsales: 3\nname: A\nBe brief."
    assert rewrites("评价公司。\n名称：甲\n收入：3")[0] == "评价公司。\n收入：3\n名称：甲"


def test_a_json_object_turns_its_fields_around():
    found = rewrites('Judge. {"name": "甲", "sales": [1, 2]}')[0]
    assert found == 'Judge. {"sales": [1, 2], "name": "甲"}'
    assert json.loads(found[7:]) == {"name": "甲", "sales": [1, 2]}


@pytest.mark.parametrize("text", ["Hello!", "One: two", "Q?\na: 1\nb: 2\nc: 3", "", "{not json", "问题？\n内容"])
def test_nothing_is_lost_and_nothing_is_the_same(text):
    found = rewrites(text)
    assert found == rewrites(text) and text not in found and len(set(found)) == len(found) >= 1
    for one in found[:-1]:  # the last adds a frame
        assert Counter(one.split("\n")) == Counter(text.split("\n"))
    assert text in found[-1]


def test_the_frame_speaks_the_prompts_language():
    assert rewrites("甲公司如何？") == ["请回答。\n甲公司如何？"]
    assert rewrites("Hello!") == ["Please answer this.\nHello!"]
