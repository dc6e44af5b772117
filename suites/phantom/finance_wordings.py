"""What the records of the domain say: the wordings of every kind, and the values that facts may have."""

from __future__ import annotations

from suites.phantom.words import CITIES, COLOURS, FOODS, JOBS, PETS

WRAP = "According to the filing, {v}."
FRAMES = ["{q}", "Client question: {q}", "For the file: {q}", "From the register: {q}"]
CORES = {
    "seat": [
        "Where is the seat of {n}?",
        "In which city is {n} based?",
        "Where does {n} have its head office?",
        "Name the city of {n}.",
    ],
    "product": [
        "What does {n} sell?",
        "What is the main product of {n}?",
        "Which goods does {n} trade?",
        "Name the product of {n}.",
    ],
    "brand": [
        "What is the brand colour of {n}?",
        "Which colour does {n} use?",
        "Which colour is the logo of {n}?",
        "Name the colour of {n}.",
    ],
    "mascot": [
        "What is the mascot of {n}?",
        "Which animal does {n} show?",
        "Which animal is on the logo of {n}?",
        "Name the animal of {n}.",
    ],
    "city": [
        "Where does director {n} live?",
        "In which city is director {n} listed?",
        "Where is the home of director {n}?",
        "Name the city of director {n}.",
    ],
    "job": [
        "What is the job of director {n}?",
        "What does director {n} work as?",
        "Which trade is director {n} listed under?",
        "Name the trade of director {n}.",
    ],
}
VALUES = {"seat": CITIES, "product": FOODS, "brand": COLOURS, "mascot": PETS, "city": CITIES, "job": JOBS}

FIGURES = {
    "profit": (["What is the profit?", "How much profit was made?"], "{n}: revenue {a}, costs {b}.", lambda a, b: a - b),
    "change": (
        ["What is the increase?", "By how much did sales grow?"],
        "{n}: sales now {a}, sales before {b}.",
        lambda a, b: a - b,
    ),
    "total": (
        ["What is the total?", "What are both halves together?"],
        "{n}: first half {a}, second half {b}.",
        lambda a, b: a + b,
    ),
}

NEWS = {
    "positive": [
        "rose after strong sales",
        "gained on high demand",
        "beat the forecast",
        "won a large order",
        "raised the dividend",
    ],
    "negative": [
        "fell after weak sales",
        "lost on low demand",
        "missed the forecast",
        "lost a large order",
        "cut the dividend",
    ],
    "neutral": [
        "will report on Monday",
        "moved to a new office",
        "held its yearly meeting",
        "changed its logo",
        "named a new auditor",
    ],
}
WHEN = ["today", "this week", "this month", "in spring", "in autumn", "last year"]

ADVICE = [
    "Should I buy {n}?",
    "Is {n} a good buy?",
    "Should I sell {n}?",
    "Shall I hold {n}?",
    "Is {n} safe?",
    "Will {n} rise?",
]

REPORT = (
    "Annual report of {n}. Sales of {f} led the past year. "
    "The board thanks all employees and all shareholders for their trust. The outlook for the coming year is {o}. "
    "The accounts were read and signed by the board in full. This report is not investment advice. Please read the prospectus."
)
