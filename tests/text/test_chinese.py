"""Chinese answers are read as Chinese writes them: letters of choices, numerals, full-width forms."""

from __future__ import annotations

import pytest

from harness.text import answer_metrics
from harness.text.numbers import is_number, numbers, numeric

NUMERALS = [
    ("三千五百", [3500]),
    ("百分之十五", [15]),
    ("1.2万", [1.2]),
    ("3.5亿元", [3.5]),
    ("十", [10]),
    ("十五", [15]),
    ("二十", [20]),
    ("一百零五", [105]),
    ("一百五", [150]),
    ("三万五", [35000]),
    ("两万", [20000]),
    ("二〇二四年", [2024]),
    ("一九九八年", [1998]),
    ("三点五亿", [3.5]),
    ("负三十", [-30]),
    ("壹佰贰拾叁", [123]),
    ("百分之百", [100]),
    ("千分之五", [0.5]),
    ("万分之三", [0.03]),
    ("三亿五千万", [350000000]),
    ("3亿5000万", [350000000]),
    ("1万2千", [12000]),
    ("3千5百万元", [35000000]),
    ("3万亿", [3]),
    ("统一", []),
    ("万一", []),
    ("千万别", []),
    ("十分", []),
    ("这是一个问题", []),
    ("一般来说", []),
    ("第三十条", []),
    ("二三十", []),
    ("几十", []),
    ("答案是三。", [3]),
    ("答案：三", [3]),
    ("共三个", [3]),
    ("三", [3]),
    ("三个", [3]),
    ("三点五分", []),
    ("百分之三点五", [3.5]),
    ("百分之3.5", [3.5]),
    ("一千零一", [1001]),
    ("一万零五百", [10500]),
    ("十万", [100000]),
    ("五百万", [5000000]),
    ("一亿二千三百四十五万六千七百八十九", [123456789]),
    ("九千九百九十九万亿", [9999000000000000]),
    ("３５００", [3500]),
    ("１２．５％", [12.5]),
    ("第5条", [5]),
    ("三分之二", []),
    ("共有十二人，每人三本，共三十六本", [12, 36]),
    ("5‰", [5]),
    ("5百", [5]),
    ("2百万", [2]),
    ("1万2", [12000]),
    ("零", [0]),
    ("三十而立", [30]),
    ("2024年3月5日", [2024, 3, 5]),
    ("1千米", [1]),
    ("10万元", [10]),
    ("3元5角", [3, 5]),
]
"""Text, and the numbers in it before their units."""
LETTERS = [
    ("正确答案是B", 1),
    ("答案：B", 1),
    ("选B", 1),
    ("（B）", 1),
    ("Ｂ", 1),
    ("答案是Ｂ。", 1),
    ("故选B。", 1),
    ("本题选择B", 1),
    ("答案为：B", 1),
    ("【答案】B", 1),
    ("答案是「B」", 1),
    ("B项正确", 1),
    ("B选项", 1),
    ("选项A错误，选项B正确，故选B", 1),
    ("选项A错误，选项B正确", 1),
    ("不选A，选B", 1),
    ("错误答案是A，正确答案是B", 1),
    ("答案不是A", None),
    ("B。", 1),
    ("B、因为", 1),
    ("因此，正确选项为B", 1),
    ("应选（B）", 1),
    ("A项错误，B项正确", 1),
    ("答案应该是B", 1),
    ("选AB", None),
    ("The correct answer is (B).", 1),
    ("Answer: **B**", 1),
    ("我认为答案是 B", 1),
    ("B是正确的", 1),
    ("Option A is wrong, the answer is C", 2),
    ("A card", None),
    ("答案:Ｂ", 1),
    ("我选择的是B", 1),
]
"""Answer, and the choice that it names."""


@pytest.mark.parametrize(("text", "values"), NUMERALS)
def test_numerals(text, values):
    assert [number.value for number in numbers(text)] == values


@pytest.mark.parametrize(
    ("output", "target", "declared", "score"),
    [
        ("大约3500元", "三千五百", {}, 1),
        ("三千五百元", "3500", {}, 1),
        ("0.15", "百分之十五", {}, 1),
        ("百分之十五", "15%", {}, 1),
        ("百分之五", "15%", {}, 0),
        ("3.5亿元", "三亿五千万", {}, 1),
        ("1.2万", "12000", {}, 1),
        ("1.2万", "1.2", {}, 1),  # a unit that one of them names may be left out
        ("1.2万", "120000", {}, 0),
        ("３，５００", "3500", {}, 1),
        ("故利润为三千五百万元。", "3500万", {}, 1),
        ("答案是十二", "12", {}, 1),
        ("2023年为5人，二〇二四年共十人，合计15人，这是统一的标准", "15", {}, 1),
        ("三点五亿元", "350000000", {"unit": "元"}, 1),
        ("三千五百美元", "3500", {"unit": "元"}, 0),
        ("五公斤", "5", {"unit": "kg"}, 1),
        ("一般来说是统一的", "1", {}, 0),
        ("五十公斤", "50", {"unit": "kg"}, 1),
    ],
)
def test_numeric_answers(output, target, declared, score):
    assert numeric(output, target, **declared) == score


@pytest.mark.parametrize(
    ("text", "is_one"), [("三千五百", True), ("百分之十五。", True), ("3.5亿", True), ("统一", False), ("十二人", False)]
)
def test_is_number(text, is_one):
    assert is_number(text) is is_one


@pytest.mark.parametrize(("text", "index"), LETTERS)
def test_letters(text, index):
    assert answer_metrics.choice_letter(text) == index


def test_metrics_are_picked_for_chinese_answers():
    assert answer_metrics.pick_metric(["三千五百", "百分之十五", "1.2万"]) == "numeric"
    assert answer_metrics.pick_metric(["Ａ", "Ｂ"]) == "letter"
    assert answer_metrics.pick_metric(["合同无效", "合同有效"]) == "exact_match"


def test_characters_count_as_words_in_every_plane():
    assert answer_metrics.words("甲〇々𠀀 Ａｂ１２") == ["甲", "〇", "々", "𠀀", "ab12"]
    assert answer_metrics.token_f1("合同，无效。", "合同无效") == 1
