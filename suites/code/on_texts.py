"""Small right functions of texts."""

from __future__ import annotations

from suites.code.registry import tried_on


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


@tried_on(("hello big world",), ("one",), ("a bc d",))
def reverse_words(sentence):
    """Return a sentence with its words in the opposite order."""
    words = sentence.split()
    return " ".join(words[::-1])


@tried_on(("banana",), ("abc",), ("",))
def letter_counts(text):
    """Return how often each letter occurs in a text."""
    counts = {}
    for letter in text:
        counts[letter] = counts.get(letter, 0) + 1
    return counts


@tried_on(("the cat sat",), ("hello",), ("a big dog",))
def title_case(sentence):
    """Return a sentence with a capital at the start of every word."""
    return " ".join([word[0].upper() + word[1:] for word in sentence.split()])


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


@tried_on(("a1b22",), ("abc",), ("7",))
def only_digits(text):
    """Return the digits of a text."""
    return "".join([letter for letter in text if letter.isdigit()])


@tried_on(("hello", "lo"), ("hello", "he"), ("lo", "hello"), ("x", "x"))
def ends_with(text, ending):
    """Return True if a text ends with the ending."""
    if len(ending) > len(text):
        return False
    return text[len(text) - len(ending) :] == ending


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


@tried_on(("The quick brown fox",), ("a bb cc",), ("one",))
def longest_word(sentence):
    """Return the first of the longest words of a sentence."""
    longest = ""
    for word in sentence.split():
        if len(word) > len(longest):
            longest = word
    return longest
