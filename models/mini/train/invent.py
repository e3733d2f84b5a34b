"""Kinds of tools that exist nowhere: random verbs, nouns, parameters and results.

They keep the model from knowing tools by heart: only the schema says what such a tool wants. Verbs and nouns
that hash to the held-out part appear in the evaluation alone. It shares all other machinery with real kinds.
"""

from kinds import Kind, Parameter
from values import invented, is_held, pool

VERBS, OBJECTS = pool("verbs"), pool("objects")

# Names, source, descriptions, and how a request speaks of it ({} is the slot).
BANK = [
    ("label|tag|caption", "title", "Label to use. ; Its label.", 'with the label "{}"'),
    ("count|times|repeat", "int(2,30)", "How often. ; Number of times.", "{} times"),
    ("owner|user|assigned_to", "person", "Who owns it. ; Person in charge.", "for {}"),
    ("site|location|place", "city", "Where it is. ; The site.", "in {}"),
    ("due|date|deadline", "date", "Latest date. ; When it is due.", "by {}"),
    ("start|begin|from_time", "time", "When to begin. ; Start time.", "from {} on"),
    ("mode|method|style", "fast,careful,silent", "How to do it. ; The mode.", "in {} mode"),
    ("level|grade|stage", "low,middle,top", "Which level. ; The stage.", "at the {} level"),
    ("speed|pace|rate", "num(1,90)", "Speed to use. ; The pace.", "at speed {}"),
    ("limit|maximum|cap", "int(10,999)", "Upper limit. ; Never more than this.", "with a limit of {}"),
    ("notify|mail|contact", "email", "Who gets a mail. ; Address to notify.", "and notify {}"),
    ("batch|series|lot", "code", "The batch. ; Which series.", "from batch {}"),
    ("colors|parts|extras", "list(thing)", "Things that go with it. ; The extras.", "together with {}"),
    ("target|folder|output", "folder", "Where the output goes. ; Target folder.", "into {}"),
    ("forced|force|always", "bool", "Even if something is wrong. ; Ignore warnings.", "by force"),
    ("dry_run|simulate|preview", "bool", "Only try it. ; Change nothing.", "as a dry run"),
]

# What such tools return: a field's name, its source, and how an answer calls it.
RESULTS = [
    ("pressure", "num(1,900)", "pressure"), ("weight", "num(1,900)", "weight"),
    ("score", "int(1,900)", "score"), ("keeper", "person", "keeper"), ("height", "num(1,90)", "height"),
    ("value", "int(1,900)", "value"), ("place", "city", "place"), ("due_on", "date", "due date"),
    ("phase", "ready,waiting,done", "phase"), ("receipt", "code", "receipt"), ("rank", "int(1,300)", "rank"),
    ("checked_by", "person", "inspector"), ("width", "num(1,90)", "width"), ("job", "code", "job"),
    ("ready_at", "time", "time when it is ready"), ("minutes", "int(1,300)", "time in minutes"),
]


def word(words, rng, held):
    return rng.choice([one for one in words if is_held(one) == held])


def identity(noun, rng):
    """The parameter that says which one."""
    if rng.random() < 0.5:
        names, source = (f"{noun}_id", "id", f"{noun}_number"), "code"
        about = (f"Id of the {noun}.", f"Which {noun}.")
        spoken = rng.choice([f"{noun} {{which}}", f"{noun} with the id {{which}}"])
    else:
        names, source = ("name", f"{noun}_name", noun), "title"
        about = (f"Name of the {noun}.", f"What the {noun} is called.")
        spoken = rng.choice([f'{noun} "{{which}}"', f'{noun} called "{{which}}"'])
    return Parameter(names, source, about, True, key="which"), "the " + spoken


def made_up(rng):
    """A parameter whose name says nothing; only the request's words match it."""
    name = invented(rng, 2).lower()
    source = rng.choice(["int(2,99)", "num(1,90)", "code", "thing"])
    spoken = rng.choice(["with {n} {s}", "with a {n} of {s}", "and set {n} to {s}"])
    text = spoken.replace("{n}", name).replace("{s}", "{}")
    return Parameter((name, f"{name}_value"), source, (f"The {name}.", f"Value of {name}."), False), text


def extra_parameters(rng):
    rows = rng.sample(BANK, rng.choice([0, 1, 1, 2, 2, 3]))
    found = []
    for names, source, about, spoken in rows:
        names = tuple(names.split("|"))
        about = tuple(part.strip() for part in about.split(";"))
        found.append((Parameter(names, source, about, rng.random() < 0.4 and source != "bool"), spoken))
    if rng.random() < 0.3:
        found.append(made_up(rng))
    return found


def sentence(verb, spoken, extras):
    parts = []
    for parameter, words in extras:
        words = words.replace("{}", "{" + parameter.key + "}")
        parts.append(" " + words if parameter.required else f"[{parameter.key}: {words}]")
    return f"{verb} {spoken}{''.join(parts)}"


def invent(rng, held=False, verb=None, noun=None):
    """A kind of its own. Its `held` part has other words, so it needs no names of its own held out."""
    verb = verb or word(VERBS, rng, held)
    noun = noun or word(OBJECTS, rng, held)
    which, spoken = identity(noun, rng)
    extras = extra_parameters(rng)
    rng.shuffle(extras)
    plain = sentence(verb, spoken, extras)
    parameters = [which, *(parameter for parameter, _ in extras)]
    lacks = [
        f"{one.key}: {sentence(verb.capitalize(), spoken, [row for row in extras if row[0] is not one])}."
        for one, _ in extras if one.required
    ]
    returned = rng.sample(RESULTS, rng.choice([1, 1, 2]))
    field, _, first = returned[0]
    return Kind(
        name=f"{verb} {noun}",
        group=noun,
        held=held,
        names=[f"{verb}_{noun}", f"{noun}_{verb}", f"do_{verb}_{noun}", f"{verb}_the_{noun}"],
        about=[f"{verb.capitalize()} a {noun}.", f"A tool to {verb} one {noun}."],
        parameters=parameters,
        gives=[(name, source) for name, source, _ in returned],
        asks=[
            f"{verb.capitalize()}{plain[len(verb):]}.",
            f"Can you {plain}?",
            f"I want you to {plain}.",
            f"It is time to {plain}.",
            f"Somebody should {plain}.",
        ],
        lacks=lacks,
        tells=[
            f"Done; the {first} is {{{field}}}.",
            f"The {noun} is done, with {first} {{{field}}}.",
            f"The {first} is {{{field}}}.",
        ],
        fails=[f"no such {noun}", f"the {noun} is in use"],
    )


def finder(chained, rng):
    """A kind that finds the id or name which `chained` needs."""
    noun = chained.group
    clue, _, about, spoken = rng.choice([row for row in BANK if row[1] in ("person", "city", "code", "email")])
    source = next(row[1] for row in BANK if row[0] == clue)
    key = clue.split("|")[0]
    parameter = Parameter(tuple(clue.split("|")), source, tuple(p.strip() for p in about.split(";")), True)
    field = f"{noun}_id" if chained.parameters[0].source == "code" else f"{noun}_name"
    words = spoken.replace("{}", "{" + key + "}").removeprefix("and ")
    kind = Kind(
        name=f"find {noun}",
        group=noun,
        held=chained.held,
        names=[f"find_{noun}", f"{noun}_search", f"lookup_{noun}", f"locate_{noun}"],
        about=[f"Find a {noun}.", f"Looks up which {noun} it is."],
        parameters=[parameter],
        gives=[(field, chained.parameters[0].source)],
        asks=[f"Find the {noun} {words}.", f"Which {noun} is it {words}?", f"Look up the {noun} {words}."],
        tells=[f"It is {{{field}}}.", f"The {noun} is {{{field}}}."],
    )
    return kind, field

