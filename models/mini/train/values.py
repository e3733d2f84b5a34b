"""Values that dialogues are filled with, and the rule that says which of them training never sees.

`draw(spec, rng, held)` makes one value of a source such as `city`, `int(1,9)` or `on,off`. An *open* source
has so many values that some are held out: those whose text hashes to 0 modulo `HELD_ONE_IN`. A closed one
(choices, booleans, units, weekdays, small ranges) has none. This module never looks at a tool or a phrasing.
"""

import random
import re
import zlib
from pathlib import Path

HELD_ONE_IN = 8
# Ranges narrower than this are closed: with few values none can be spared.
OPEN_RANGE = 100
# Chance that a search for a held-out value fails is (7/8)^400, some 1e-23.
TRIES = 400

WORDS = Path(__file__).parent / "words"


def pool(name):
    text = (WORDS / f"{name}.txt").read_text(encoding="utf-8").strip()
    if "|" not in text:
        return text.split()
    return text.splitlines() if "\n" in text else text.split("|")


CITIES, FIRST, LAST = pool("cities"), pool("first"), pool("last")
THINGS, ADJECTIVES, FOODS = pool("things"), pool("adjectives"), pool("foods")
CHORES, TOPICS, SYLLABLES = pool("chores"), pool("topics"), pool("syllables")

# One of each in metres. None so small that a conversion needs an exponent.
METRES = {"metres": 1, "feet": 0.3048, "kilometres": 1000, "miles": 1609.344, "yards": 0.9144}
CLOSED = {
    "unit": list(METRES),
    "currency": "EUR USD GBP JPY CHF SEK NOK DKK PLN CZK INR BRL CAD AUD".split(),
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "language": "French Spanish German Italian Polish Dutch Turkish Finnish Swedish Greek Czech Danish".split(),
    "room": ["kitchen", "bedroom", "bathroom", "hall", "cellar", "study", "garage", "attic", "living room"],
    "sky": ["sunny", "cloudy", "rainy", "snowy", "foggy", "windy", "clear", "overcast"],
    "bool": [True],
}


def invented(rng, most=3):
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, most))).capitalize()


def place(rng):
    return rng.choice(CITIES) if rng.random() < 0.5 else invented(rng)


def person(rng):
    first = rng.choice(FIRST) if rng.random() < 0.7 else invented(rng, 2)
    last = rng.choice(LAST) if rng.random() < 0.6 else invented(rng)
    return f"{first} {last}"


def code(rng):
    # No vowels: chance must spell no words.
    letters = "".join(rng.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(rng.randint(1, 3)))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 6)))
    return rng.choice([f"{letters}-{digits}", f"{letters}{digits}", f"{letters.lower()}_{digits}"])


def date(rng):
    return f"{rng.randint(2019, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def clock(rng):
    return f"{rng.randint(0, 23):02}:{rng.choice(range(0, 60, 5)) if rng.random() < 0.7 else rng.randint(0, 59):02}"


def email(rng):
    user = (rng.choice(FIRST) + rng.choice(["", ".", "_"]) + rng.choice(LAST + [invented(rng)])).lower()
    # Names that are reserved for examples, so that no address is anyone's.
    return f"{user}@{invented(rng).lower()}.{rng.choice(['example', 'test', 'example.org', 'example.com'])}"


def phone(rng):
    return f"+{rng.randint(20, 99)} {rng.randint(100, 999)} {rng.randint(10000, 9999999)}"


def thing(rng):
    noun = rng.choice(THINGS) if rng.random() < 0.7 else invented(rng).lower()
    return f"{rng.choice(ADJECTIVES)} {noun}" if rng.random() < 0.5 else noun


def title(rng):
    shapes = [
        lambda: f"{invented(rng)} {rng.choice(THINGS)}",
        lambda: f"The {rng.choice(ADJECTIVES)} {rng.choice(THINGS)}",
        lambda: f"{rng.choice(THINGS).capitalize()} of {place(rng)}",
        lambda: f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)} meeting".capitalize(),
        lambda: f"{rng.choice(FIRST)} and the {rng.choice(THINGS)}",
    ]
    return rng.choice(shapes)()


def remark(rng):
    shapes = [
        lambda: f"the {thing(rng)} is in the {rng.choice(CLOSED['room'])}",
        lambda: f"{rng.choice(FIRST)} will {rng.choice(CHORES)}",
        lambda: f"we meet in {place(rng)} at {clock(rng)}",
        lambda: f"please {rng.choice(CHORES)} before {rng.choice(CLOSED['weekday'])}",
        lambda: f"I need {rng.randint(2, 99)} of the {thing(rng)}",
        lambda: f"the {rng.choice(ADJECTIVES)} {rng.choice(THINGS)} costs {rng.randint(2, 999)}",
    ]
    return rng.choice(shapes)()


def sum_(rng):
    number = lambda: str(rng.randint(2, 999) if rng.random() < 0.7 else rng.randint(10, 999) / 10)
    shape = rng.choice(["{} {} {}", "{} {} {}", "{} {} {} {} {}", "({} {} {}) * {}"])
    parts = [number() if i % 2 == 0 else rng.choice("+-*" if shape[0] != "(" else "+-") for i in range(5)]
    if shape[0] == "(":
        parts = parts[:3] + [number()]
    return shape.format(*parts)


OPEN = {
    "city": place,
    "person": person,
    "code": code,
    "date": date,
    "time": clock,
    "email": email,
    "phone": phone,
    "thing": thing,
    "title": title,
    "remark": remark,
    "sum": sum_,
    "number": lambda rng: rng.randint(1, 999) if rng.random() < 0.6 else rng.randint(10, 9999) / 10,
    "product": lambda rng: f"{rng.choice(ADJECTIVES)} {rng.choice(THINGS)} {rng.choice([invented(rng), code(rng)])}",
    "shop": lambda rng: f"{invented(rng)} {rng.choice(['House', 'Corner', 'Inn', 'Place', 'Garden', 'Square'])}",
    "street": lambda rng: f"{rng.randint(1, 299)} {invented(rng)} {rng.choice(['Street', 'Road', 'Lane', 'Avenue'])}",
    "day": lambda rng: rng.choice(CLOSED["weekday"]) if rng.random() < 0.3 else date(rng),
    "chore": lambda rng: rng.choice(CHORES) if rng.random() < 0.6 else f"find the {thing(rng)} for {person(rng)}",
    "food": lambda rng: rng.choice(FOODS),
    "dish": lambda rng: f"{rng.choice(FOODS)} {rng.choice(['soup', 'pie', 'curry', 'salad', 'stew'])} {invented(rng)}",
    "topic": lambda rng: rng.choice(TOPICS) if rng.random() < 0.6 else f"the {thing(rng)} of {place(rng)}",
    "foreign": lambda rng: " ".join(invented(rng).lower() for _ in range(rng.randint(1, 5))),
    "flight": lambda rng: f"{rng.choice('ABCDEFGHKLMQ')}{rng.choice('ABCFKLSTUXZ')}{rng.randint(100, 9999)}",
    "file": lambda rng: f"{rng.choice(['', 'docs/', 'tmp/', 'src/'])}{rng.choice(THINGS)}_{rng.randint(1, 99)}."
    + rng.choice(["txt", "md", "csv", "png", "json"]),
    "photo": lambda rng: f"{rng.choice(THINGS)}_{rng.randint(1, 999)}.{rng.choice(['jpg', 'png'])}",
    "folder": lambda rng: f"/{rng.choice(['home', 'srv', 'data'])}/{invented(rng).lower()}/{rng.choice(THINGS)}",
    "slug": lambda rng: f"{rng.choice(THINGS)}-{invented(rng).lower()}",
    "ticker": lambda rng: "".join(rng.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(rng.randint(3, 5))),
    "team": lambda rng: f"{place(rng)} {rng.choice(['United', 'Rovers', 'Bears', 'Stars', 'Hawks', 'City'])}",
    "score": lambda rng: f"{rng.randint(0, 130)}:{rng.randint(0, 130)}",
    "medicine": lambda rng: invented(rng).lower() + rng.choice(["ol", "in", "ax", "ine"]),
}

RANGE = re.compile(r"(int|num)\((-?\d+),(-?\d+)\)$")
LIST = re.compile(r"list\((.+)\)$")


def is_held(value):
    """Whether a value of an open source belongs to the evaluation alone."""
    return zlib.crc32(str(value).encode()) % HELD_ONE_IN == 0


def is_open(spec):
    if spec in OPEN:
        return True
    bounds = RANGE.match(spec)
    if not bounds:
        return False
    return bounds[1] == "num" or int(bounds[3]) - int(bounds[2]) >= OPEN_RANGE


def choices(spec):
    """The values of an enum source, else none."""
    return [one.strip() for one in spec.split(",")] if "," in spec and "(" not in spec else None


def json_type(spec):
    """What JSON Schema calls the values of a source."""
    if LIST.match(spec):
        return "array"
    if spec == "number":
        return "number"
    bounds = RANGE.match(spec)
    if bounds:
        return "integer" if bounds[1] == "int" else "number"
    return "boolean" if spec == "bool" else "string"


def raw(spec, rng):
    if spec in OPEN:
        return OPEN[spec](rng)
    if spec in CLOSED:
        return rng.choice(CLOSED[spec])
    bounds = RANGE.match(spec)
    if not bounds:
        return rng.choice(choices(spec) or [spec])
    low, high = int(bounds[2]), int(bounds[3])
    if bounds[1] == "int":
        # Half of the draws from a wide range are short numbers, as people's are.
        return rng.randint(low, min(high, low + 99) if rng.random() < 0.5 else high)
    value = round(rng.uniform(low, high), rng.randint(1, 2))
    return value if rng.random() < 0.7 else int(value) or 1


def draw(spec, rng, held=False):
    """One value; of an open source only such as `held` asks for."""
    inner = LIST.match(spec)
    if inner:
        found = []
        for _ in range(rng.choice([2, 2, 3, 3, 4, 5])):
            value = draw(inner[1], rng, held)
            if value not in found:
                found.append(value)
        return found
    if not is_open(spec):
        return raw(spec, rng)
    for _ in range(TRIES):
        value = raw(spec, rng)
        if is_held(value) == held:
            return value
    raise ValueError(f"no value of {spec} with held={held}")


def seeded(*parts):
    """A generator of its own for each of these parts, the same in every run."""
    return random.Random(":".join(map(str, parts)))
