"""All functions of this suite, in the order in which its items are made.

They were written for it, and each has arguments on which a wrong one gives itself away. A new one
goes to the module of its kind, and its name to the end of `ORDER`: what stands there already keeps
its items.
"""

from __future__ import annotations

from suites.code import on_lists, on_numbers, on_texts
from suites.code.registry import CHECKS, REGISTERED, source_of

__all__ = ["CHECKS", "FUNCTIONS", "source_of"]

MODULES = (on_lists, on_numbers, on_texts)
"""Modules that register functions."""

ORDER = [
    "largest",
    "count_vowels",
    "is_palindrome",
    "factorial",
    "fibonacci",
    "is_prime",
    "mean",
    "median",
    "reverse_words",
    "gcd",
    "to_celsius",
    "is_leap_year",
    "unique",
    "binary_search",
    "bubble_sort",
    "letter_counts",
    "digit_sum",
    "even_numbers",
    "clamp",
    "title_case",
    "flatten",
    "dot_product",
    "hypotenuse",
    "to_binary",
    "second_largest",
    "caesar",
    "is_sorted",
    "discounted",
    "chunks",
    "common_items",
    "only_digits",
    "collatz_steps",
    "key_of_largest",
    "variance",
    "transpose",
    "ends_with",
    "clock",
    "running_totals",
    "count_negative",
    "grade",
    "are_anagrams",
    "is_balanced",
    "power",
    "first_index",
    "merge",
    "with_interest",
    "longest_word",
    "rotate_left",
    "exclusive_or",
    "has_pair_with_sum",
]

if sorted(ORDER) != sorted(REGISTERED):
    raise ValueError(f"ORDER and the registered functions differ: {set(ORDER) ^ set(REGISTERED)}")

FUNCTIONS = {name: REGISTERED[name] for name in ORDER}
"""Name -> function."""
