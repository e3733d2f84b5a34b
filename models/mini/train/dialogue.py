"""Dialogues: who asks what, which calls are right, what the tools say, and the answer.

`make_dialogue` draws one from a seed; nothing but the seed and the split decides it. It renders no text form.
"""

from dataclasses import dataclass, field
from functools import cache

from ask import (
    aside, draw_apart, draw_error, fill, lower, phrase, phrase_request, result_of, speak, wire_error, wire_result,
)
from invent import finder, invent
from kinds import SEGMENT, SLOT, all_kinds, lacking
from talk import small_talk
from tools import TRAIN, make_tool
from values import draw, pool, seeded

TOOLS_MOST = 6
# Shares of what a turn may be. A turn that cannot be made with the tools at hand becomes `single`.
SCENARIOS = {
    "single": 34, "several": 14, "steps": 16, "error": 12, "none": 12, "talk": 7, "more": 5, "missing": 8,
    "given": 0,  # only after `missing`
}
# How many turns. The long ones teach positions that the others never reach.
TURNS = {1: 58, 2: 27, 3: 10, 6: 5}


@dataclass
class Step:
    thought: str
    calls: list  # of (name, arguments)
    results: list  # texts, one for each call


@dataclass
class Turn:
    scenario: str
    user: str
    steps: list
    thought: str
    answer: str
    must: list  # what a right answer contains


@dataclass
class Dialogue:
    system: str
    tools: list  # schemas
    turns: list = field(default_factory=list)
    thinking: bool = True


@dataclass
class Request:
    """A request for one tool, with all that follows from it."""

    tool: object
    text: str
    given: dict
    call: tuple
    fields: dict


def weighted(rng, table):
    return rng.choices(list(table), weights=list(table.values()))[0]


@cache
def chains():
    rows = [line.split(" | ") for line in pool("chains")]
    named = {kind.name: kind for kind in all_kinds()}
    return [(named[a], field, named[b], key, words) for a, field, b, key, words in rows]


def refer(template, noun, rng):
    """Names an invented thing as the one that was found, no longer by its id or name."""
    words = f"{noun} {rng.choice(['that you found', 'from there', 'in question'])}"
    for spoken in ('called "{which}"', "with the id {which}", '"{which}"', "{which}"):
        template = template.replace(f"{noun} {spoken}", words)
    return template


class Scene:
    """Draws the turns of one dialogue."""

    def __init__(self, rng, split, stratum, easy):
        self.rng, self.split, self.stratum = rng, split, stratum
        self.tools, self.chain, self.before, self.asked = [], None, None, None
        count = rng.choice([1, 2] if easy else [1, 2, 2, 3, 3, 4, 5, TOOLS_MOST])
        if rng.random() < 0.3:
            self.chain = self.draw_chain()
            for kind in (self.chain[0], self.chain[2]):
                self.offer(kind)
        while len(self.tools) < count:
            self.offer(self.draw_kind(), apart=True)
        rng.shuffle(self.tools)

    def draw_kind(self):
        if self.stratum == "invented" or (self.stratum in ("train", "values") and self.rng.random() < 0.4):
            return invent(self.rng, held=self.stratum == "invented")
        return self.rng.choice([one for one in all_kinds() if one.held == self.split.kinds])

    def draw_chain(self):
        real = [row for row in chains() if (row[0].held or row[2].held) == self.split.kinds]
        if self.stratum == "invented" or self.rng.random() < 0.5 and self.stratum in ("train", "values"):
            second = invent(self.rng, held=self.stratum == "invented")
            first, name = finder(second, self.rng)
            return first, name, second, "which", "which"
        return self.rng.choice(real)

    def offer(self, kind, apart=False):
        groups = {tool.kind.group for tool in self.tools}
        tool = make_tool(kind, self.rng, self.split)
        if tool.name in {one.name for one in self.tools} or (apart and kind.group in groups):
            return
        self.tools.append(tool)

    def request(self, tool, fixed=None, template=None):
        """Asks for a tool; `fixed` keys are spoken in other words, which a chain gives."""
        kind = tool.kind
        template = template or self.rng.choice(kind.of("asks", self.split.phrasings))
        text, given = phrase_request(kind, template, self.rng, self.split.values, fixed)
        return self.answered(tool, text, given)

    def answered(self, tool, text, given):
        fields = result_of(tool.kind, given, self.rng, self.split.values)
        return Request(tool, text, given, (tool.name, tool.arguments(given)), fields)

    def wrap(self, text):
        shape = phrase("wrap", self.rng, self.split.phrasings)
        after_words = shape.split("{ask}")[0].endswith((", ", "me: "))
        return shape.format(ask=lower(text) if after_words else text)

    def tell(self, request):
        every = request.tool.kind.tells
        held = self.split.phrasings and not request.tool.kind.held
        template = self.rng.choice(every[-1:] if held else every)
        return fill(template, {**request.given, **request.fields})

    def key_value(self, request):
        return speak(next(iter(request.fields.values())))

    def step(self, requests, later=""):
        """One step that calls all of these."""
        listed = []
        for request in requests:
            name, arguments = request.call
            listed.append(f"{name} with {', '.join(arguments)}" if arguments else f"{name} without arguments")
        thought = f"I call {' and '.join(listed)}.{later}"
        results = [wire_result(request.fields, self.rng) for request in requests]
        return Step(thought, [request.call for request in requests], results)

    # Scenarios. Each gives a turn, or nothing if the tools at hand do not allow it.

    def single(self):
        request = self.request(self.rng.choice(self.tools))
        self.before = request
        step = self.step([request])
        user = self.wrap(request.text)
        return Turn("single", user, [step], "I have the result.", self.tell(request), [self.key_value(request)])

    def several(self):
        first = self.request(self.rng.choice(self.tools))
        pair = self.alike(first) if self.rng.random() < 0.5 else None
        if pair is None:
            second = self.request(self.rng.choice(self.tools))
            shape = phrase("and", self.rng, self.split.phrasings)
            text = shape.format(a=first.text, b=lower(second.text))
        else:
            second, text = pair
        if first.call == second.call:
            return None
        step = self.step([first, second])
        answer = f"{self.tell(first)} {self.tell(second)}"
        must = [self.key_value(first), self.key_value(second)]
        return Turn("several", self.wrap(text), [step], "I have both results.", answer, must)

    def alike(self, first):
        """The same request for two values at once: the weather in Oslo and Lima."""
        kind = first.tool.kind
        shapes = [
            one for one in kind.of("asks", self.split.phrasings)
            if len(SLOT.findall(SEGMENT.sub("", one))) == 1 and '"' not in one
        ]
        if not shapes:
            return None
        shape = SEGMENT.sub("", self.rng.choice(shapes))
        key = SLOT.findall(shape)[0]
        parameter = kind.parameter(key)
        if parameter.type != "string" or parameter.choices:
            return None
        one, two = (draw(parameter.source, self.rng, self.split.values) for _ in range(2))
        if " and " in f"{one}{two}" or one == two:
            return None
        again = self.answered(first.tool, "", {key: one})
        first.given, first.call, first.fields = again.given, again.call, again.fields
        text = fill(shape, {key: f"{one} and {two}"})
        return self.answered(first.tool, text, {key: two}), text

    def steps(self):
        if not self.chain:
            return None
        first_kind, name, second_kind, key, words = self.chain
        by_kind = {id(tool.kind): tool for tool in self.tools}
        first_tool, second_tool = by_kind.get(id(first_kind)), by_kind.get(id(second_kind))
        if not first_tool or not second_tool:
            return None
        first = self.request(first_tool)
        handed = first.fields[name]
        shapes = [
            one for one in second_kind.of("asks", self.split.phrasings)
            if "{" + key + "}" in one and '"{' + key not in one
        ]
        shapes = shapes or second_kind.asks[:1]
        template = self.rng.choice(shapes)
        if words == "which":
            template, words = refer(template, second_kind.group, self.rng), ""
        text, given = phrase_request(second_kind, template, self.rng, self.split.values, {key: words})
        second = self.answered(second_tool, text, {**given, key: handed})
        shape = phrase("then", self.rng, self.split.phrasings)
        user = self.wrap(shape.format(a=first.text, b=lower(second.text)))
        one = self.step([first], f" Then {second.call[0]} with the result.")
        two = self.step([second])
        answer = self.tell(second) if self.rng.random() < 0.5 else f"{self.tell(first)} {self.tell(second)}"
        return Turn("steps", user, [one, two], "I have both results.", answer, [self.key_value(second)])

    def error(self):
        request = self.request(self.rng.choice(self.tools))
        error = draw_error(request.tool.kind, self.rng, self.split.values)
        step = self.step([request])
        step.results = [wire_error(error, self.rng)]
        answer = phrase("failed", self.rng, self.split.phrasings).format(error=error)
        return Turn("error", self.wrap(request.text), [step], "The tool reports an error.", answer, [error])

    def none(self):
        groups = {tool.kind.group for tool in self.tools}
        if self.rng.random() < 0.35:
            text = aside("beyond", self.rng, self.split)
        else:
            kind = self.draw_kind()
            if kind.group in groups:
                return None
            text = self.request(make_tool(kind, self.rng, self.split)).text
        answer = phrase("unable", self.rng, self.split.phrasings)
        return Turn("none", self.wrap(text), [], "No tool does this.", answer, ["cannot"])

    def talk(self):
        if self.rng.random() < 0.2:
            text = phrase("thanks", self.rng, self.split.phrasings)
            answer = phrase("welcome", self.rng, self.split.phrasings)
            return Turn("talk", text, [], "They thank me.", answer, [])
        text, answer, must = small_talk(self.rng, self.split.phrasings)
        return Turn("talk", text, [], "This needs no tool.", answer, must)

    def more(self):
        """Asks the last question again for another value."""
        before = self.before
        if not before or not before.tool.kind.more:
            return None
        template = self.rng.choice(before.tool.kind.more)
        text, given = phrase_request(before.tool.kind, template, self.rng, self.split.values)
        request = self.answered(before.tool, text, {**before.given, **given})
        if request.call == before.call:
            return None
        self.before = request
        return Turn("more", text, [self.step([request])], "I have the result.", self.tell(request),
                    [self.key_value(request)])

    def missing(self):
        """Leaves out a required argument: the right answer asks for it."""
        able = [tool for tool in self.tools if tool.kind.lacks]
        if not able:
            return None
        tool = self.rng.choice(able)
        key, template = lacking(self.rng.choice(tool.kind.lacks))
        text, given = phrase_request(tool.kind, template, self.rng, self.split.values)
        self.asked = (tool, key, given)
        name = tool.names[key]
        answer = phrase("asking", self.rng, self.split.phrasings).format(name=name)
        return Turn("missing", self.wrap(text), [], f"{name} is missing for {tool.name}.", answer, [name])

    def given(self):
        """Says what the model has asked for."""
        (tool, key, before), self.asked = self.asked, None
        value = draw_apart(tool.kind.parameter(key), self.rng, self.split.values, before)
        text = phrase("telling", self.rng, self.split.phrasings).format(value=speak(value))
        request = self.answered(tool, text, {**before, key: value})
        step = self.step([request])
        return Turn("given", text, [step], "I have the result.", self.tell(request), [self.key_value(request)])

    def turn(self):
        scenario = weighted(self.rng, SCENARIOS)
        if self.chain and scenario in ("single", "several") and self.rng.random() < 0.5:
            scenario = "steps"
        if self.before and self.before.tool.kind.more and self.rng.random() < 0.6:
            scenario = "more"
        if self.asked:
            scenario = "given"
        turn = getattr(self, scenario)()
        if scenario != "more" and (turn is None or scenario != "single"):
            self.before = None
        return turn or self.single()


def system_line(rng, split):
    return "" if rng.random() < 0.25 else aside("system", rng, split)


def make_dialogue(seed, split=TRAIN, stratum="train", easy=False):
    """The dialogue of this seed; an easy one has one turn and one or two tools."""
    rng = seeded("dialogue", stratum, seed)
    system = system_line(rng, split)
    if rng.random() < 0.04:
        return without_tools(rng, split, system)
    scene = Scene(rng, split, stratum, easy)
    tools = [tool.schema for tool in scene.tools]
    dialogue = Dialogue(system, tools, thinking=stratum != "train" or rng.random() < 0.9)
    for _ in range(1 if easy else weighted(rng, TURNS)):
        dialogue.turns.append(scene.turn())
    return dialogue


def without_tools(rng, split, system):
    """Talk, or a request that cannot be met, where no tool is offered."""
    text, answer, must = small_talk(rng, split.phrasings)
    turn = Turn("talk", text, [], "This needs no tool.", answer, must)
    if rng.random() < 0.4:
        text = aside("beyond", rng, split)
        answer = phrase("unable", rng, split.phrasings)
        turn = Turn("none", text, [], "No tool does this.", answer, ["cannot"])
    return Dialogue(system, [], [turn])
