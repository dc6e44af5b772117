"""Chance of answers that stand in the prompt."""

from __future__ import annotations

import pytest

from harness.text.named_answers import named_chance


@pytest.mark.parametrize(
    ("prompt", "target", "k"),
    [
        ("Is 66 or 14 smaller?", "14", 2),
        ("Which is larger, 19 or 47?", "47", 2),
        ("Is the sky red, green or blue?", "blue", 3),
        ("Is the sky red, green, or blue?", "Green.", 3),
        ("Pick one: tea or coffee", "tea", 2),
        ("三和五,哪个大? 三还是五?", "五", 2),
        ("Which is the smallest of 46 31 2 16?", "2", 4),
        ("What is the last letter of q f e y?", "y", 4),
        ("Ann brings peas. Bo brings figs. Cy brings corn. What does Bo bring?", "figs", 3),
        ("The key is in the red box. The cup is in the blue box. What is in the blue box?", "cup", 2),
        ("The key is in the red box. The red box is in the mill. The tan box is in the park. Where is the key?", "mill", 2),
        ("Ann has 3 peas. Bo has 5 peas. How many peas has Bo?", "5", 2),
        # the answer is computed, and stands among the numbers by accident
        ("How many of 3 5 2 8 are even, the largest one counted?", "2", 0),
        ("Her scores are 50, 80, 40, 90, 70 and 60. Find her mean score.", "70", 0),
        (
            "A bus does 60 miles an hour for 5 hours. A car does 30 miles an hour for 8 hours. How far past it is the bus?",
            "60",
            0,
        ),
        (
            "The first dog walks 1 mile. The second dog walks 4 miles. The third dog walks 3 miles. On average they do 3."
            " How far does the last of 4 walk?",
            "4",
            0,
        ),
        # a tale, of which nothing is asked
        ("'Who goes there?' said Tom. 'Who else is there?' said Ann. 'Nobody is there,' said", "Ann", 0),
        # nothing to choose from
        ("What is 3 or more called?", "many", 0),
        ("Sort 7 6 3 9", "3 6 7 9", 0),
        ("Compute 64 + 79.", "143", 0),
        ("Paris is the capital of France. It lies on the Seine, or so they say. Where does it lie?", "Seine", 0),
        ("Who wrote Emma?", "Jane Austen", 0),
        ("", "x", 0),
    ],
)
def test_picking_one_of_k_named_things_is_right_in_one_of_k(prompt, target, k):
    assert named_chance(prompt, [target]) == pytest.approx(1 / k if k else 0)


def test_any_accepted_answer_counts():
    assert named_chance("Is it a or b?", ["none", "b"]) == 0.5
