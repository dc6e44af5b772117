# ruff: noqa: SIM108, SIM110  the functions stand here as models read them
"""Small right functions of numbers and truth values."""

from __future__ import annotations

from suites.code.registry import tried_on


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


@tried_on((1234,), (-56,), (0,), (909,))
def digit_sum(n):
    """Return the sum of the digits of a whole number, whatever its sign."""
    n = abs(n)
    total = 0
    while n > 0:
        total += n % 10
        n //= 10
    return total


@tried_on((5, 1, 10), (-3, 0, 8), (12, 0, 8))
def clamp(value, low, high):
    """Return the value, or the nearer limit if it is outside of low and high."""
    return max(low, min(value, high))


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


@tried_on((100, 0.1), (200, 0.25), (50, 0))
def discounted(price, share):
    """Return a price less a share of it."""
    return price - price * share


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


@tried_on((3661,), (59,), (7325,))
def clock(seconds):
    """Return hours, minutes and seconds of a number of seconds."""
    hours = seconds // 3600
    minutes = seconds % 3600 // 60
    return (hours, minutes, seconds % 60)


@tried_on((85,), (72,), (50,), (90,), (70,))
def grade(points):
    """Return A from 85 points on, B from 70 points on, and C below."""
    if points >= 85:
        return "A"
    if points >= 70:
        return "B"
    return "C"


@tried_on((2, 10), (3, 4), (5, 0))
def power(base, exponent):
    """Return base to the power of a whole exponent that is not negative."""
    result = 1
    for _ in range(exponent):
        result *= base
    return result


@tried_on((1000, 0.05, 2), (200, 0.1, 1), (500, 0.02, 0))
def with_interest(capital, rate, years):
    """Return a capital after so many years of compound interest."""
    for _ in range(years):
        capital += capital * rate
    return capital


@tried_on((True, True), (True, False), (False, False))
def exclusive_or(a, b):
    """Return True if exactly one of two truth values is True."""
    return (a or b) and not (a and b)
