"""Scores of generated answers: hand-computed numbers, and reference libraries where they exist."""

import math
import random
import time

import pytest

from harness.text import answer_metrics
from harness.text.numbers import numbers, numeric


@pytest.mark.parametrize(
    ("output", "target", "score"),
    [
        ("The Card arrival.", "card arrival", 1),
        ("card", "card arrival", 0),
        ("1.5", "15", 0),  # SQuAD's own normal form drops the point
        ("-5", "5", 0),
        ("Ｙｅｓ", "yes", 1),
        ("是。", "是", 1),
        ("!", "?", 0),
        ("It is red, so:\n#### Red", "red", 1),
        (r"so \boxed{\text{card arrival}}", "card arrival", 1),
        ("#### Colours\nred", "colours", 0),  # a heading
        ("red", "It glows.\nAnswer: red", 1),
        ("blue", "It glows.\nAnswer: red", 0),
    ],
)
def test_exact_match(output, target, score):
    assert answer_metrics.exact_match(output, target) == score


@pytest.mark.parametrize(
    ("output", "target", "score"),
    [
        ("18", "18", 1),
        ("It is $1,234.50 in all", "1234.5", 1),
        ("3.14", "3.1", 1),  # within the target's rounding
        ("3.16", "3.1", 0),
        ("18.4", "18", 0),  # whole numbers are exact
        ("0.125", "12.5%", 1),
        ("12.5", "12.5 %", 1),
        ("1250", "12.5%", 0),
        ("2.5 billion", "2,500 million", 1),
        ("2.5 million", "2.5 billion", 0),
        ("(5.3)", "-5.3", 1),
        ("16 - 3 = 13, so 13 * 2 = 26", "26", 1),
        ("3万", "30000", 1),
        ("none", "0", 0),
        ("It weighs 30kg", "30", 1),  # what is glued to a number takes none of its digits
        ("It weighs 30kg", "3", 0),
        ("1,234km", "1234", 1),
        ("\u22125", "-5", 1),  # a typeset minus
        ("1.5e3", "1500", 1),
        ("5 million in the 2nd quarter", "5 million", 1),  # ordinals are no numbers
        ("$5 million in the 21st century", "5 million", 1),
        ("0.75", "3/4", 1),
        ("7/4", "3/4", 0),  # not their last digits
        ("½ cup", "0.5", 1),
        ("5½", "5.5", 1),
        (r"2\frac{1}{2}", "2.5", 1),
        ("on 12/05/2024", "2024", 1),  # a date is no fraction
        ("2009/10", "10", 1),  # nor is a business year
        ("3 × 10⁵", "300000", 1),
        ("10⁵", "105", 0),
        ("1\u202f234", "1234", 1),
        ("1,00,000", "100000", 1),
        ("7,5", "3,5", 0),  # a decimal comma
        ("1.234,5 Euro", "1234,5", 1),
        ("5 + 67 = 72\n#### 72\n\nQuestion: and 3 more?\n#### 75", "#### 72", 1),
        ("72", "<<5+67=72>>\n#### 72\nThe answer is: 72", 1),
        ("#### 71", "72 is not it\n#### 72", 0),
        (r"$\boxed{72}$ of 100", "72", 1),
        ("<answer>72</answer> (100 in all)", "72", 1),
    ],
)
def test_numeric(output, target, score):
    assert answer_metrics.numeric(output, target) == score


def test_a_range_is_two_numbers_and_a_minus_needs_no_digit_before():
    assert [n.value for n in numbers("2009-2010: -4, 5 m, 7 men")] == [2009, 2010, -4, 5, 7]
    assert [n.value for n in numbers("5%-10%, 1,2345, 1e999")] == [5, 10, 1, 2345, math.inf]
    assert [n.factor for n in numbers("5 m, 7 men")] == [1e6, None]


def test_token_f1_by_hand():
    # found {cat sat on mat}, wanted {cat lay on mat}: 3 in common, 2 * 3 / (4 + 4)
    assert answer_metrics.token_f1("the cat sat on the mat", "a cat lay on the mat") == pytest.approx(0.75)
    assert answer_metrics.token_f1("", "x") == 0
    assert answer_metrics.token_f1("借款合同", "贷款合同") == pytest.approx(0.75)


def test_rouge_l_by_hand():
    # longest common subsequence a c d: precision 3/4, recall 3/5
    assert answer_metrics.rouge_l("a c x d", "a b c d e") == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert answer_metrics.rouge_l("甲公司借款", "乙公司借款") == pytest.approx(0.8)


def test_rouge_l_is_the_library_s_on_english():
    from rouge_score.rouge_scorer import RougeScorer

    output, target = "Revenue rose sharply in the second quarter", "In the second quarter, revenue rose"
    reference = RougeScorer(["rougeL"]).score(target, output)["rougeL"].fmeasure
    assert answer_metrics.rouge_l(output, target) == pytest.approx(reference)


@pytest.mark.parametrize("size", [1, 3, 20, 90])
def test_rouge_l_is_the_library_s_to_the_last_bit(size):
    """Of drawn texts, some longer than a machine's word has bits."""
    from rouge_score.rouge_scorer import RougeScorer

    rng, scorer = random.Random(size), RougeScorer(["rougeL"])
    for _ in range(30):
        output, target = (" ".join(rng.choices("abcdefgh", k=rng.randint(0, size))) for _ in range(2))
        assert answer_metrics.rouge_l(output, target) == scorer.score(target, output)["rougeL"].fmeasure


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1),
        ("(B) the second", 1),
        ("The answer is B.", 1),
        ("答案：B", 1),
        ("Answer: B", 1),
        ("**B**", 1),
        ("The answer is **B**", 1),
        ("Option A is wrong, the answer is C", 2),
        (r"So B falls and $\boxed{C}$ stays", 2),
        (r"\boxed{\text{(B)}}", 1),
        (r"\boxed{Because}", None),
        ("Blue", 1),
        ("blue.", 1),
        ("Because", None),
        ("", None),
        ("D", None),
        ("A card", None),
    ],
)
def test_choice_letter(text, index):
    assert answer_metrics.choice_letter(text, ["Red", "Blue", "Green"]) == index


def test_a_choice_s_text_comes_before_its_letter():
    assert answer_metrics.choice_letter("A", ["B", "A"]) == 1
    assert answer_metrics.choice("B", "Blue", ["Red", "Blue"]) == 1


@pytest.mark.parametrize(
    ("answers", "metric"),
    [
        (["A", "C", "B"], "letter"),
        (["12", "$3.5 million", "7%"], "numeric"),
        (["card arrival", "top up"], "exact_match"),
        (["get a new physical card for the account"] * 4, "exact_match"),
        (["one two three four five six seven", "seven six five four three two one"], "token_f1"),
        ([" ".join(["word"] * 50)], "rouge_l"),
        (["是", "否"], "exact_match"),
        (["3 and 4 make seven\n#### 7", "all of them, which are twelve\n#### 12"], "numeric"),
        (["The tide is high because of the moon.\nAnswer: B"] * 2, "letter"),
        ([" ".join(["word"] * 50) + "\nAnswer: " + " ".join(["long"] * 20)], "rouge_l"),
    ],
)
def test_pick_metric(answers, metric):
    assert answer_metrics.pick_metric(answers) == metric


def test_pick_metric_with_choices():
    assert answer_metrics.pick_metric(["Blue", "B"], [["Red", "Blue"], ["Red", "Blue"]]) == "letter"
    assert answer_metrics.pick_metric(["a plant", "a tree"], [None, None]) == "exact_match"


def test_best_takes_any_accepted_answer():
    assert answer_metrics.best("exact_match", "December 1972", ["14 December 1972 UTC", "December 1972"]) == 1


@pytest.mark.parametrize(
    ("output", "target", "declared", "score"),
    [
        ("about 102", "100", {"tolerance": "2%"}, 1),
        ("about 103", "100", {"tolerance": "2%"}, 0),
        ("99.6", "100", {"tolerance": 0.5}, 1),
        ("99.4", "100", {"tolerance": 0.5}, 0),
        ("5,000 g", "5", {"unit": "kg"}, 1),
        ("5 g", "5", {"unit": "kg"}, 0),
        ("5", "5 kg", {"unit": "kg"}, 1),
        ("5000000 mg", "5 kg", {"unit": "kg"}, 1),
        ("€5", "5", {"unit": "USD"}, 0),
        ("$5 million", "5000000", {"unit": "USD"}, 1),
        ("5m dollars", "5 million", {"unit": "USD"}, 1),
        ("90 minutes", "1.5", {"unit": "hours"}, 1),
        ("50 bps", "0.5%", {"unit": "%"}, 1),
        ("3 公里", "3000", {"unit": "m"}, 1),
        ("12 widgets", "12", {"unit": "widgets"}, 1),
        ("12 kg", "12", {"unit": "widgets"}, 0),
        ("5.04 kg", "5", {"unit": "kg", "tolerance": 0.05}, 1),
        ("5060 g", "5", {"unit": "kg", "tolerance": 0.05}, 0),
        ("none", "5", {"unit": "kg"}, 0),
        ("250ml", "0.25", {"unit": "l"}, 1),
        ("It weighs 30kg", "3 kg", {"unit": "kg"}, 0),
    ],
)
def test_declared_tolerances_and_units(output, target, declared, score):
    assert numeric(output, target, **declared) == score


ENDLESS = ["9" * 5000, "1.5e" + "9" * 5000, "10^" + "9" * 5000, "1/" + "9" * 5000, "1万" * 2500]
"""What a model that repeats itself may answer."""


@pytest.mark.parametrize("answer", ENDLESS, ids=lambda text: text[:4])
def test_endless_digits_are_scored_in_time(answer):
    begin = time.process_time()
    assert numeric(answer, "3") == 0 and numeric("3", answer) == 0
    assert time.process_time() - begin < 0.3


@pytest.mark.parametrize("tolerance", [float("inf"), 10**400, float("nan"), -1])
def test_a_tolerance_that_accepts_everything_is_refused(tolerance):
    with pytest.raises(ValueError, match="give a number from 0"):
        numeric("5", "3", tolerance=tolerance)
