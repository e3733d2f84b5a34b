"""Sentences: a request from a phrasing and its values, a tool's result, an answer that uses it.

Every value that a call needs is spoken in the request or stated in the schema. It chooses no tools.
"""

import json
from functools import cache
from pathlib import Path

from kinds import SEGMENT, SLOT
from results import computed, is_computed
from values import RANGE, draw, is_open

PHRASES = Path(__file__).parent / "words" / "phrases.txt"
OPTIONAL_SPOKEN = 0.5


@cache
def phrases():
    found = {}
    for line in PHRASES.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            into = found.setdefault(line[2:].split(":")[0], [])
        elif line:
            into.append(line)
    return found


def phrase(name, rng, held=False):
    """One of these phrases; the last of each is held out."""
    every = phrases()[name]
    return rng.choice(every[-1:] if held else every[:-1])


def speak(value):
    """A value as people write it."""
    if isinstance(value, list):
        words = [speak(one) for one in value]
        return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
    return str(value)


def fill(template, values):
    return SLOT.sub(lambda slot: speak(values[slot[1]]), template)


def draw_for(parameter, rng, held, given):
    """A value of its source; `of(key)` is one of those that another parameter lists."""
    if parameter.source.startswith("of("):
        return rng.choice(given[parameter.source[3:-1]])
    return draw(parameter.source, rng, held)


def draw_apart(parameter, rng, held, taken):
    """A value that no other parameter has, where there are enough."""
    for _ in range(20):
        value = draw_for(parameter, rng, held, taken)
        if parameter.type == "boolean" or value not in taken.values():
            return value
    return value


def phrase_request(kind, template, rng, held, fixed=None):
    """Fills a phrasing: the text, and the value of each key that it speaks of."""
    fixed = fixed or {}
    spoken = {key for key, _ in SEGMENT.findall(template) if rng.random() < OPTIONAL_SPOKEN}

    def segment(found):
        if found[1] not in spoken:
            return ""
        return found[2] if found[2].startswith(",") else " " + found[2]

    text = SEGMENT.sub(segment, template)
    keys = spoken | set(SLOT.findall(text))
    given = {}
    for parameter in kind.parameters:
        if parameter.key in keys and parameter.key not in fixed:
            given[parameter.key] = draw_apart(parameter, rng, held, given)
    return fill(text, {**given, **fixed}), given


def lower(text):
    """A request that goes on after other words."""
    first, _, _ = text.partition(" ")
    keep = first in ("I", "I'm", "I'd", "I'll", "SMS") or not (first[:1].isupper() and first[1:].islower())
    return text if keep else text[0].lower() + text[1:]




def result_of(kind, given, rng, held):
    """What a tool returns: its fields by name. What follows from arguments and other fields is computed last."""
    drawn = {name: draw(source, rng, held) for name, source in kind.gives if not is_computed(source)}
    return {
        name: drawn[name] if name in drawn else computed(source, {**given, **drawn}, rng)
        for name, source in kind.gives
    }


def wire_result(fields, rng):
    """The text of a result."""
    shape = rng.random()
    if shape < 0.1:
        return "; ".join(f"{name}: {speak(value)}" for name, value in fields.items())
    body = dict(fields)
    if shape < 0.3:
        body[rng.choice(["source", "request_id", "version"])] = draw("code", rng)
    if shape > 0.8:
        body = {"status": "ok", rng.choice(["data", "result"]): body}
    return json.dumps(body, ensure_ascii=False)


def draw_error(kind, rng, held):
    """What went wrong, in the tool's words."""
    if kind.fails and rng.random() < 0.6:
        return rng.choice(kind.fails)
    text = rng.choice(phrases()["errors"])
    return inline(text, rng, held)


def inline(text, rng, held):
    """Puts values for `{source}` into a text."""
    while "{" in text:
        before, rest = text.split("{", 1)
        source, after = rest.split("}", 1)
        source = {"name": "person"}.get(source, source)
        open_ = is_open(source) or RANGE.match(source)
        text = before + str(draw(source, rng, held and is_open(source)) if open_ else source) + after
    return text


def wire_error(error, rng):
    shapes = [
        lambda: json.dumps({"error": error}),
        lambda: json.dumps({"status": "error", "message": error}),
        lambda: f"Error: {error}",
        lambda: json.dumps({"ok": False, "reason": error}),
    ]
    return rng.choice(shapes)()


def aside(name, rng, split):
    """A phrase of this name with its values."""
    return inline(phrase(name, rng, split.phrasings), rng, split.values)
