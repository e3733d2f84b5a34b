"""Results that follow from a call's arguments: sums, conversions, counts, places in a list.

They are true, where they can be: a model that sees false sums learns that results may be corrected. Everything
else that tools return is drawn in `values.py`.
"""

from datetime import date

from values import METRES

# Yearly percent of a loan whose interest is not said.
INTEREST = 3


def number(value):
    """Whole where it is whole, and without what binary fractions leave in the last digits."""
    value = float(f"{value:.10g}")
    return int(value) if value == int(value) else value


def days(start, end):
    return abs((date.fromisoformat(end) - date.fromisoformat(start)).days)


def length(value, source, target):
    return float(f"{value * METRES[source] / METRES[target]:.4g}")


def each(total, people, tip):
    return round(total * (1 + (tip or 0) / 100) / people, 2)


def instalment(principal, years, interest):
    """What an annuity of equal months costs in one."""
    rate = (INTEREST if interest is None else interest) / 1200
    return round(principal * rate / (1 - (1 + rate) ** (-12 * years)), 2)


RULES = {
    "calc": lambda _, term: eval(term, {"__builtins__": {}}),  # noqa: S307 (our own sums)
    "share": lambda _, percent, amount: percent * amount / 100,
    "first": lambda _, numbers, largest: max(numbers) if largest else min(numbers),
    "place": lambda _, wanted, items: items.index(wanted) + 1,
    "between": lambda rng, low, high: rng.randint(low, high),
    "times": lambda _, amount, rate: round(amount * rate, 2),
    "days": lambda _, *dates: days(*dates),
    "length": lambda _, *given: length(*given),
    "each": lambda _, *given: each(*given),
    "instalment": lambda _, *given: instalment(*given),
}


def is_computed(source):
    return source.partition("(")[0] in RULES


def computed(source, given, rng):
    """The result of a source such as `share(percent,amount)`."""
    word, _, keys = source.rstrip(")").partition("(")
    return number(RULES[word](rng, *(given.get(key) for key in keys.split(","))))
