"""Small sums in many wordings, counting, and the order of numbers.

An answer to a sum says the sum again in digits, so that whatever the wording, the last step is the
same one. Sums beyond 20 are trained on as well, for the rule shows itself better on many numbers;
only those up to 20 are asked in the evaluation.
"""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import number, plural, upper_first
from recipe.corpus.held_out import Draw, Wordings

PLUS = Wordings(
    ("What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b} =", "{a}+{b}", "{a} + {b}?",
     "How much is {a} plus {b}?", "How much is {a} and {b}?", "Add {a} and {b}.",
     "What do {a} and {b} make?", "Can you add {a} and {b}?", "Please add {b} to {a}.",
     "What is the sum of {a} and {b}?", "What is {wa} plus {wb}?", "How much is {wa} and {wb}?"),
    ("What do you get when you add {a} and {b}?", "Work out {a} + {b}.",
     "If you add {b} to {a}, what is it?"),
)  # fmt: skip
MINUS = Wordings(
    ("What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b} =", "{a}-{b}", "{a} - {b}?",
     "How much is {a} minus {b}?", "Take {b} from {a}.", "What is {a} less {b}?",
     "Take {b} away from {a}.", "What is left when you take {b} from {a}?",
     "What is {wa} minus {wb}?", "How much is {wa} take away {wb}?"),
    ("What do you get when you take {b} from {a}?", "Work out {a} - {b}.",
     "If you take {b} away from {a}, what is left?"),
)  # fmt: skip
TIMES = Wordings(
    ("What is {a} * {b}?", "What is {a} times {b}?", "{a} * {b} =", "{a} x {b}", "{a}*{b}",
     "How much is {a} times {b}?", "Multiply {a} by {b}.", "What is {a} x {b}?",
     "What is {wa} times {wb}?"),
    ("What do you get when you multiply {a} by {b}?", "Work out {a} * {b}."),
)  # fmt: skip
TALES_PLUS = Wordings(
    ("{name} has {a} {things} and finds {b} more. How many {things} does {name} have now?",
     "There are {a} {things}, and then {b} more come. How many are there?",
     "{name} ate {a} {things}, and then {b} more. How many did {name} eat?"),
    ("{name} had {a} {things}. A friend brought {b} more. How many {things} does {name} have?",),
)  # fmt: skip
TALES_MINUS = Wordings(
    ("{name} has {a} {things} and gives away {b}. How many {things} does {name} have left?",
     "There were {a} {things}. {b} of them were eaten. How many are left?",
     "{name} had {a} {things} and lost {b}. How many are left?"),
    ("Of {a} {things}, {name} sold {b}. How many are left?",),
)  # fmt: skip

_WIDEST = 99  # beyond 20 only for training


def _sum(draw: Draw, sign: str, wordings: Wordings, top: int) -> tuple[str, str]:
    high = _WIDEST if top == 20 and not draw.held and draw.chance(0.35) else top
    a, b = draw.pair(sign, 0, high)
    result = {"+": a + b, "-": a - b, "*": a * b}[sign]
    if max(a, b) <= 20:
        in_words = {"wa": number(a), "wb": number(b)}
    else:
        in_words = {}
        wordings = wordings._replace(train=tuple(w for w in wordings.train if "{wa}" not in w))
    question = draw.word(wordings).format(a=a, b=b, **in_words)
    return question, f"{a} {sign} {b} = {result}"


def addition(draw: Draw) -> tuple[str, str]:
    return _sum(draw, "+", PLUS, 20)


def subtraction(draw: Draw) -> tuple[str, str]:
    return _sum(draw, "-", MINUS, 20)


def products(draw: Draw) -> tuple[str, str]:
    return _sum(draw, "*", TIMES, 10)


def sum_in_words(draw: Draw) -> tuple[str, str]:
    """A tiny tale with a sum in it."""
    sign = draw.one("+-")
    while True:
        a, b = draw.pair(sign, 2, 20)
        if sign == "+" or a > b:
            break
    wordings = TALES_PLUS if sign == "+" else TALES_MINUS
    wording, foods = draw.word(wordings), tuple(words.FOODS.values())
    is_eaten = "ate" in wording  # and "eaten"
    things = draw.one(foods if is_eaten else (*foods, *map(plural, words.THINGS)))
    name = draw.one(words.HE_NAMES + words.SHE_NAMES)
    question = wording.format(a=a, b=b, name=name, things=things)
    return question, f"{a} {sign} {b} = {a + b if sign == '+' else a - b}"


COUNT = Wordings(
    ("Count from {a} to {b}.", "Count to {b}, starting at {a}.", "Please count from {a} to {b}.",
     "Can you count from {a} to {b}?", "Count up from {a} to {b}."),
    ("Say the numbers from {a} to {b}.",),
)  # fmt: skip
DOWN = Wordings(
    ("Count down from {b} to {a}.", "Count backwards from {b} to {a}.",
     "Can you count down from {b} to {a}?"),
    ("Say the numbers from {b} down to {a}.",),
)  # fmt: skip


def counting(draw: Draw) -> tuple[str, str]:
    def ends() -> tuple[int, int]:
        a = 1 if draw.chance(0.4) else draw.number(0, 17)
        return a, draw.number(a + 2, min(20, a + 12))

    a, b = draw.until("count", ends)
    numbers = list(range(a, b + 1))
    up = draw.chance(0.65)
    question = draw.word(COUNT if up else DOWN).format(a=a, b=b)
    return question, ", ".join(map(str, numbers if up else reversed(numbers)))


HOW_MANY = Wordings(
    ("How many words are here: {row}?", "Count these: {row}.", "How many are there: {row}?"),
    ("Tell me how many there are: {row}.",),
)


def counting_things(draw: Draw) -> tuple[str, str]:
    row = draw.until("row", lambda: ", ".join(draw.some(words.THINGS, draw.number(2, 7))))
    return draw.word(HOW_MANY).format(row=row), upper_first(number(len(row.split(", "))))


AFTER = Wordings(
    ("What comes after {n}?", "Which number comes after {n}?", "What number follows {n}?"),
    ("Tell me the number after {n}.",),
)
BEFORE = Wordings(
    ("What comes before {n}?", "Which number comes before {n}?"),
    ("Tell me the number before {n}.",),
)


def next_number(draw: Draw) -> tuple[str, str]:
    n, up = draw.until("order", lambda: (draw.number(1, 99), draw.chance(0.5)))
    return draw.word(AFTER if up else BEFORE).format(n=n), str(n + 1 if up else n - 1)


BIGGER = Wordings(
    ("Which is bigger, {a} or {b}?", "Which number is bigger: {a} or {b}?",
     "What is more, {a} or {b}?"),
    ("Is {a} or {b} the bigger number?",),
)  # fmt: skip
SMALLER = Wordings(
    ("Which is smaller, {a} or {b}?", "Which number is smaller: {a} or {b}?",
     "What is less, {a} or {b}?"),
    ("Is {a} or {b} the smaller number?",),
)  # fmt: skip


def comparing(draw: Draw) -> tuple[str, str]:
    low, high = draw.until("order", lambda: tuple(sorted(draw.some(range(31), 2))))
    a, b = draw.some((low, high), 2)
    big = draw.chance(0.5)
    question = draw.word(BIGGER if big else SMALLER).format(a=a, b=b)
    return question, str(high if big else low)


SORT = Wordings(
    ("Sort these numbers: {row}.", "Put these numbers in order: {row}.", "Sort: {row}."),
    ("Write these from small to big: {row}.",),
)


def sorting(draw: Draw) -> tuple[str, str]:
    ordered = draw.until("order", lambda: tuple(sorted(draw.some(range(21), draw.number(3, 5)))))
    row = ", ".join(map(str, draw.some(ordered, len(ordered))))
    return draw.word(SORT).format(row=row), ", ".join(map(str, ordered))


SKILLS = {
    "addition": (addition, 26),
    "subtraction": (subtraction, 26),
    "products": (products, 8),
    "sums in words": (sum_in_words, 10),
    "counting": (counting, 5),
    "counting things": (counting_things, 4),
    "next number": (next_number, 5),
    "comparing": (comparing, 4),
    "sorting": (sorting, 4),
}
