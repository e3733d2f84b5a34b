"""One tool as it is offered: a kind with its names chosen, and the JSON schema that says so.

It also maps a kind's own keys to the names in the schema. It writes no sentence and draws no values.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Split:
    """What is drawn from the held-out part. Training draws nothing from it."""

    kinds: bool = False
    names: bool = False
    phrasings: bool = False
    values: bool = False


TRAIN = Split()
# What each part of the evaluation holds out; values are new in all of them.
STRATA = {
    "values": Split(values=True),
    "phrasings": Split(phrasings=True, values=True),
    "names": Split(names=True, values=True),
    "kinds": Split(kinds=True, values=True),
    "invented": Split(names=True, values=True),
}


@dataclass
class Tool:
    kind: object
    name: str
    names: dict  # a kind's key to the name in the schema
    stated: dict  # keys that are required, with the default that their description states
    schema: dict

    def arguments(self, given):
        """Arguments of a call, in the schema's order, for what the user gave."""
        every = {**self.stated, **given}
        ordered = {self.names[key]: every[key] for key in self.names if key in every}
        return {name: ordered[name] for name in self.properties() if name in ordered}

    def properties(self):
        return self.schema["function"]["parameters"]["properties"]


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def some(names, held):
    """The part of a parameter's names that training or the evaluation uses."""
    return names[-1:] if held else names[: max(1, len(names) - 1)]


def property_of(parameter, rng, stated):
    about = rng.choice(parameter.about)
    if stated is not None:
        about = f"{about} Use {stated} unless told otherwise."
    schema = {"type": parameter.type}
    if rng.random() < 0.9 or stated is not None:
        schema["description"] = about
    if parameter.type == "array":
        numbers = parameter.source == "list(number)"
        schema["items"] = {"type": "number" if numbers else "string"}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
        if not parameter.required and stated is None and rng.random() < 0.5:
            schema["default"] = parameter.choices[0]
    if parameter.type == "boolean" and rng.random() < 0.5:
        schema["default"] = False
    return schema


def name_parameters(kind, rng, split):
    """A name for each key, no name twice."""
    style = camel if rng.random() < 0.15 else str
    names, used = {}, set()
    for parameter in kind.parameters:
        held = split.names and not kind.held
        free = [style(one) for one in some(parameter.names, held) if style(one) not in used]
        names[parameter.key] = rng.choice(free or [style(parameter.key) + "_value"])
        used.add(names[parameter.key])
    return names


def make_tool(kind, rng, split=TRAIN):
    """Offers a kind under names of this split."""
    names = name_parameters(kind, rng, split)
    stated = {}
    for parameter in kind.parameters:
        if parameter.choices and not parameter.required and rng.random() < 0.15:
            stated[parameter.key] = parameter.choices[0]
    properties = {
        names[one.key]: property_of(one, rng, stated.get(one.key)) for one in kind.parameters
    }
    if rng.random() < 0.2:
        properties = dict(rng.sample(list(properties.items()), len(properties)))
    needed = {names[one.key] for one in kind.parameters if one.required or one.key in stated}
    name = rng.choice(kind.of("names", split.names))
    if rng.random() < 0.15:
        name = camel(name)
    function = {
        "name": name,
        "description": rng.choice(kind.about),
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in needed],
        },
    }
    return Tool(kind, name, names, stated, {"type": "function", "function": function})
