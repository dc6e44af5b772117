# ruff: noqa: SIM108, SIM110, B905  the functions stand here as models read them
"""Small right functions, written for this suite, each with arguments on which a wrong one gives itself away."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

CHECKS: dict[str, list[tuple[Any, ...]]] = {}
"""Function -> arguments it is tried on."""


def tried_on(*arguments: tuple[Any, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function with the arguments it is tried on."""

    def registered(function: Callable[..., Any]) -> Callable[..., Any]:
        CHECKS[function.__name__] = list(arguments)
        FUNCTIONS[function.__name__] = function
        return function

    return registered


FUNCTIONS: dict[str, Callable[..., Any]] = {}


def source_of(name: str) -> str:
    """Return a function's source without its decorator, as `ast.unparse` writes it."""
    tree = ast.parse(inspect.getsource(FUNCTIONS[name]))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list = []
    return ast.unparse(tree)


@tried_on(([3, 9, 2],), ([-5, -1, -7],), ([4],))
def largest(numbers):
    """Return the largest number of a list."""
    best = numbers[0]
    for number in numbers[1:]:
        if number > best:
            best = number
    return best


@tried_on(("education",), ("sky",), ("AEIOU",))
def count_vowels(text):
    """Return how many vowels a text has."""
    count = 0
    for letter in text.lower():
        if letter in "aeiou":
            count += 1
    return count


@tried_on(("level",), ("Level",), ("abc",), ("",), ("ab",))
def is_palindrome(word):
    """Return True if a word reads the same in both directions, whatever its capitals."""
    word = word.lower()
    return word == word[::-1]


@tried_on((0,), (1,), (5,), (6,))
def factorial(n):
    """Return the product of the whole numbers from 1 to n."""
    result = 1
    for i in range(2, n + 1):
        result *= i
    return result


@tried_on((0,), (1,), (2,), (7,), (10,))
def fibonacci(n):
    """Return the n-th Fibonacci number; the first two are 0 and 1."""
    a, b = (0, 1)
    for _ in range(n):
        a, b = (b, a + b)
    return a


@tried_on((2,), (9,), (13,), (1,), (25,), (4,))
def is_prime(n):
    """Return True if n is a prime number."""
    if n < 2:
        return False
    for divisor in range(2, int(n**0.5) + 1):
        if n % divisor == 0:
            return False
    return True


@tried_on(([1, 2, 3, 4],), ([10],), ([2, 9],))
def mean(numbers):
    """Return the arithmetic mean of a list of numbers."""
    total = 0
    for number in numbers:
        total += number
    return total / len(numbers)


@tried_on(([5, 1, 3],), ([4, 1, 3, 2],), ([7],))
def median(numbers):
    """Return the middle number of a list, or the mean of the two in the middle."""
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


@tried_on(("hello big world",), ("one",), ("a bc d",))
def reverse_words(sentence):
    """Return a sentence with its words in the opposite order."""
    words = sentence.split()
    return " ".join(words[::-1])


@tried_on((12, 18), (7, 5), (0, 4), (9, 3))
def gcd(a, b):
    """Return the greatest common divisor of two numbers."""
    while b != 0:
        a, b = (b, a % b)
    return a


@tried_on((32,), (212,), (50,))
def to_celsius(fahrenheit):
    """Convert a temperature from Fahrenheit to Celsius."""
    return (fahrenheit - 32) * 5 / 9


@tried_on((1900,), (2000,), (2024,), (2023,))
def is_leap_year(year):
    """Return True if a year has 366 days."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


@tried_on(([1, 2, 2, 3, 1],), ([5, 5],), ([],))
def unique(items):
    """Return the items of a list, each once, in the order in which they first appear."""
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


@tried_on(([1, 3, 5, 7], 5), ([1, 3, 5, 7], 7), ([1, 3, 5, 7], 4), ([2], 2), ([1, 3, 5, 7], 1))
def binary_search(numbers, target):
    """Return the index of target in a sorted list, or -1."""
    low, high = (0, len(numbers) - 1)
    while low <= high:
        middle = (low + high) // 2
        if numbers[middle] == target:
            return middle
        if numbers[middle] < target:
            low = middle + 1
        else:
            high = middle - 1
    return -1


@tried_on(([4, 2, 8, 1],), ([1],), ([3, 3, 2],))
def bubble_sort(numbers):
    """Return the numbers of a list in ascending order."""
    numbers = list(numbers)
    for end in range(len(numbers) - 1, 0, -1):
        for i in range(end):
            if numbers[i] > numbers[i + 1]:
                numbers[i], numbers[i + 1] = (numbers[i + 1], numbers[i])
    return numbers


@tried_on(("banana",), ("abc",), ("",))
def letter_counts(text):
    """Return how often each letter occurs in a text."""
    counts = {}
    for letter in text:
        counts[letter] = counts.get(letter, 0) + 1
    return counts


@tried_on((1234,), (-56,), (0,), (909,))
def digit_sum(n):
    """Return the sum of the digits of a whole number, whatever its sign."""
    n = abs(n)
    total = 0
    while n > 0:
        total += n % 10
        n //= 10
    return total


@tried_on(([1, 2, 3, 4, 5, 6],), ([7, 9],), ([2],))
def even_numbers(numbers):
    """Return the even numbers of a list."""
    return [number for number in numbers if number % 2 == 0]


@tried_on((5, 1, 10), (-3, 0, 8), (12, 0, 8))
def clamp(value, low, high):
    """Return the value, or the nearer limit if it is outside of low and high."""
    return max(low, min(value, high))


@tried_on(("the cat sat",), ("hello",), ("a big dog",))
def title_case(sentence):
    """Return a sentence with a capital at the start of every word."""
    return " ".join([word[0].upper() + word[1:] for word in sentence.split()])


@tried_on(([[1, 2], [3], []],), ([[4], [5, 6]],))
def flatten(lists):
    """Return the items of a list of lists as one list."""
    flat = []
    for part in lists:
        for item in part:
            flat.append(item)
    return flat


@tried_on(([1, 2, 3], [4, 5, 6]), ([2], [3]))
def dot_product(a, b):
    """Return the dot product of two vectors of the same length."""
    total = 0
    for x, y in zip(a, b):
        total += x * y
    return total


@tried_on((3, 4), (6, 8), (1, 1))
def hypotenuse(a, b):
    """Return the longest side of a right triangle with the legs a and b."""
    return (a**2 + b**2) ** 0.5


@tried_on((5,), (0,), (13,), (8,))
def to_binary(n):
    """Return a number that is not negative in binary digits, as text."""
    if n == 0:
        return "0"
    digits = ""
    while n > 0:
        digits = str(n % 2) + digits
        n //= 2
    return digits


@tried_on(([5, 3, 9, 9, 1],), ([2, 8],), ([4, 6, 5],))
def second_largest(numbers):
    """Return the second largest of the different numbers of a list."""
    different = sorted(set(numbers))
    return different[-2]


@tried_on(("abc", 1), ("xyz", 3), ("Hello", 5))
def caesar(text, shift):
    """Return a text whose small letters are moved on by shift places in the alphabet, others as they are."""
    result = ""
    for letter in text:
        if "a" <= letter <= "z":
            result += chr((ord(letter) - 97 + shift) % 26 + 97)
        else:
            result += letter
    return result


@tried_on(([3, 1, 2],), ([1, 2, 2],), ([],), ([5, 4],))
def is_sorted(numbers):
    """Return True if no number of a list is smaller than the one before it."""
    for i in range(len(numbers) - 1):
        if numbers[i] > numbers[i + 1]:
            return False
    return True


@tried_on((100, 0.1), (200, 0.25), (50, 0))
def discounted(price, share):
    """Return a price less a share of it."""
    return price - price * share


@tried_on(([1, 2, 3, 4, 5], 2), ([1, 2, 3, 4], 4), ([1], 3))
def chunks(items, size):
    """Return a list cut into lists of the given size; the last may be shorter."""
    parts = []
    for start in range(0, len(items), size):
        parts.append(items[start : start + size])
    return parts


@tried_on(([1, 2, 3], [2, 3, 4]), ([1], [2]), ([5, 6], [6, 5]))
def common_items(a, b):
    """Return the items of a that are in b too."""
    return [item for item in a if item in b]


@tried_on(("a1b22",), ("abc",), ("7",))
def only_digits(text):
    """Return the digits of a text."""
    return "".join([letter for letter in text if letter.isdigit()])


@tried_on((1,), (6,), (7,), (27,))
def collatz_steps(n):
    """Return how many steps of the Collatz rule lead from n to 1."""
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return steps


@tried_on(({"a": 3, "b": 7, "c": 5},), ({"x": 1},), ({"p": 4, "q": 2},))
def key_of_largest(table):
    """Return the key with the largest value."""
    best = None
    for key, value in table.items():
        if best is None or value > table[best]:
            best = key
    return best


@tried_on(([2, 4, 6],), ([1, 2, 3, 4],), ([5],))
def variance(numbers):
    """Return the mean of the squared distances from the mean."""
    middle = sum(numbers) / len(numbers)
    return sum([(number - middle) ** 2 for number in numbers]) / len(numbers)


@tried_on(([[1, 2], [3, 4]],), ([[1, 2, 3], [4, 5, 6]],))
def transpose(rows):
    """Return a table with its rows as columns."""
    columns = []
    for j in range(len(rows[0])):
        columns.append([rows[i][j] for i in range(len(rows))])
    return columns


@tried_on(("hello", "lo"), ("hello", "he"), ("lo", "hello"), ("x", "x"))
def ends_with(text, ending):
    """Return True if a text ends with the ending."""
    if len(ending) > len(text):
        return False
    return text[len(text) - len(ending) :] == ending


@tried_on((3661,), (59,), (7325,))
def clock(seconds):
    """Return hours, minutes and seconds of a number of seconds."""
    hours = seconds // 3600
    minutes = seconds % 3600 // 60
    return (hours, minutes, seconds % 60)


@tried_on(([1, 2, 3, 4],), ([5],), ([2, 2],))
def running_totals(numbers):
    """Return the sum of the list up to each of its numbers."""
    total = 0
    totals = []
    for number in numbers:
        total += number
        totals.append(total)
    return totals


@tried_on(([3, -1, 0, -7, 2],), ([-1],), ([1, 2],))
def count_negative(numbers):
    """Return how many numbers of a list are below zero."""
    return len([number for number in numbers if number < 0])


@tried_on((85,), (72,), (50,), (90,), (70,))
def grade(points):
    """Return A from 85 points on, B from 70 points on, and C below."""
    if points >= 85:
        return "A"
    if points >= 70:
        return "B"
    return "C"


@tried_on(("listen", "silent"), ("abc", "abd"), ("aab", "abb"))
def are_anagrams(first, second):
    """Return True if two words have the same letters."""
    return sorted(first) == sorted(second)


@tried_on(("(())",), ("(()",), ("())(",), ("",))
def is_balanced(text):
    """Return True if every bracket that opens is closed, in the right order."""
    depth = 0
    for letter in text:
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


@tried_on((2, 10), (3, 4), (5, 0))
def power(base, exponent):
    """Return base to the power of a whole exponent that is not negative."""
    result = 1
    for _ in range(exponent):
        result *= base
    return result


@tried_on(([4, 8, 15], 8), ([4, 8], 16), ([], 1), ([7, 7], 7))
def first_index(items, wanted):
    """Return the place of the first item that is wanted, or None."""
    for place, item in enumerate(items):
        if item == wanted:
            return place
    return None


@tried_on(([1, 5, 9], [2, 6]), ([], [3]), ([4], [4]), ([2, 3], []))
def merge(a, b):
    """Return two sorted lists as one sorted list."""
    merged = []
    i, j = (0, 0)
    while i < len(a) and j < len(b):
        if a[i] <= b[j]:
            merged.append(a[i])
            i += 1
        else:
            merged.append(b[j])
            j += 1
    return merged + a[i:] + b[j:]


@tried_on((1000, 0.05, 2), (200, 0.1, 1), (500, 0.02, 0))
def with_interest(capital, rate, years):
    """Return a capital after so many years of compound interest."""
    for _ in range(years):
        capital += capital * rate
    return capital


@tried_on(("The quick brown fox",), ("a bb cc",), ("one",))
def longest_word(sentence):
    """Return the first of the longest words of a sentence."""
    longest = ""
    for word in sentence.split():
        if len(word) > len(longest):
            longest = word
    return longest


@tried_on(([1, 2, 3, 4], 1), ([1, 2, 3], 2), ([5], 0))
def rotate_left(items, places):
    """Return a list whose first items have moved to its end."""
    return items[places:] + items[:places]


@tried_on((True, True), (True, False), (False, False))
def exclusive_or(a, b):
    """Return True if exactly one of two truth values is True."""
    return (a or b) and not (a and b)


@tried_on(([3, 4, 8], 7), ([1, 2], 9), ([5, 5], 10))
def has_pair_with_sum(numbers, total):
    """Return True if two numbers of a list, at different places, add up to total."""
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            if numbers[i] + numbers[j] == total:
                return True
    return False
