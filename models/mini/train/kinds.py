"""Kinds of tools: reads `kinds/*.txt` and decides which kinds, names and phrasings are held out.

A file has blocks that begin with `# name`. Their lines are listed in the README. Held out are whole kinds
(`held: yes`) and, of every other kind, the last name and the last phrasing. It makes no dialogue.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from values import choices, json_type

HERE = Path(__file__).parent / "kinds"
LISTS = {"asks", "tells", "more", "lacks"}
SEGMENT = re.compile(r"\[(\w+): ([^\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Parameter:
    names: tuple
    source: str
    about: tuple
    required: bool
    key: str = ""  # how phrasings call it; its first name unless said

    def __post_init__(self):
        object.__setattr__(self, "key", self.key or self.names[0])

    @property
    def type(self):
        return json_type(self.source)

    @property
    def choices(self):
        return choices(self.source)


@dataclass
class Kind:
    name: str
    group: str = ""
    held: bool = False
    names: list = field(default_factory=list)
    about: list = field(default_factory=list)
    parameters: list = field(default_factory=list)
    gives: list = field(default_factory=list)
    asks: list = field(default_factory=list)
    tells: list = field(default_factory=list)
    more: list = field(default_factory=list)
    lacks: list = field(default_factory=list)
    fails: list = field(default_factory=list)

    def of(self, part, held):
        """Names or phrasings for training, or the ones held out."""
        every = getattr(self, part)
        if self.held:
            return every
        return every[-1:] if held else every[:-1]

    def parameter(self, key):
        return next(one for one in self.parameters if one.key == key)


def lacking(line):
    """The key that a line of `lacks` leaves out, and its request."""
    key, _, template = line.partition(": ")
    return key, template


def slots(template):
    """Keys that a phrasing names, with those of its optional segments apart."""
    optional = {key for key, _ in SEGMENT.findall(template)}
    return set(SLOT.findall(SEGMENT.sub("", template))), optional


def parameter(text, required):
    names, rest = text.split("=", 1)
    source, *about = [part.strip() for part in rest.split(";")]
    return Parameter(tuple(names.strip().split("|")), source, tuple(about), required)


def feed(kind, line):
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word in ("need", "may"):
        kind.parameters.append(parameter(rest, word == "need"))
    elif word == "gives":
        name, source = rest.split("=", 1)
        kind.gives.append((name.strip(), source.strip()))
    elif word in ("names:", "about:", "fails:"):
        setattr(kind, word[:-1], [one.strip() for one in rest.split(" | ")])
    elif word == "group:":
        kind.group = rest
    elif word == "held:":
        kind.held = rest == "yes"
    else:
        raise ValueError(f"{kind.name}: {line}")


def read(text):
    found, into = [], None
    for line in text.splitlines():
        if line.startswith("# "):
            found.append(Kind(line[2:].strip(), group=line[2:].strip()))
        elif line.startswith("  "):
            getattr(found[-1], into).append(line.strip())
        elif line.rstrip(":") in LISTS:
            into = line.rstrip(":")
        elif line.strip():
            feed(found[-1], line)
    return found


@cache
def all_kinds():
    return [kind for path in sorted(HERE.glob("*.txt")) for kind in read(path.read_text(encoding="utf-8"))]


def kinds_for(stratum):
    """Kinds that a part of the evaluation, or training, draws from."""
    return [kind for kind in all_kinds() if kind.held == (stratum == "kinds")]
