# ruff: noqa: SIM110, B905  the functions stand here as models read them
"""Small right functions of lists and tables."""

from __future__ import annotations

from suites.code.registry import tried_on


@tried_on(([3, 9, 2],), ([-5, -1, -7],), ([4],))
def largest(numbers):
    """Return the largest number of a list."""
    best = numbers[0]
    for number in numbers[1:]:
        if number > best:
            best = number
    return best


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


@tried_on(([1, 2, 3, 4, 5, 6],), ([7, 9],), ([2],))
def even_numbers(numbers):
    """Return the even numbers of a list."""
    return [number for number in numbers if number % 2 == 0]


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


@tried_on(([5, 3, 9, 9, 1],), ([2, 8],), ([4, 6, 5],))
def second_largest(numbers):
    """Return the second largest of the different numbers of a list."""
    different = sorted(set(numbers))
    return different[-2]


@tried_on(([3, 1, 2],), ([1, 2, 2],), ([],), ([5, 4],))
def is_sorted(numbers):
    """Return True if no number of a list is smaller than the one before it."""
    for i in range(len(numbers) - 1):
        if numbers[i] > numbers[i + 1]:
            return False
    return True


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


@tried_on(([1, 2, 3, 4], 1), ([1, 2, 3], 2), ([5], 0))
def rotate_left(items, places):
    """Return a list whose first items have moved to its end."""
    return items[places:] + items[:places]


@tried_on(([3, 4, 8], 7), ([1, 2], 9), ([5, 5], 10))
def has_pair_with_sum(numbers, total):
    """Return True if two numbers of a list, at different places, add up to total."""
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            if numbers[i] + numbers[j] == total:
                return True
    return False
