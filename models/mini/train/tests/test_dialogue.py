"""What holds in every dialogue: valid arguments, no value from nowhere, answers that hold what they must."""

import collections
import unittest

from ask import speak
from dialogue import SCENARIOS, make_dialogue
from tools import STRATA, TRAIN
from values import is_held

SEEDS = 400
TYPES = {
    "string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list,
}


def dialogues():
    for stratum in ["train", *STRATA]:
        for seed in range(SEEDS):
            yield stratum, seed, make_dialogue(seed, STRATA.get(stratum, TRAIN), stratum)


def problem(value, schema):
    """Why a value does not fit a schema, if it does not."""
    if not isinstance(value, TYPES[schema["type"]]):
        return "type"
    if isinstance(value, bool) and schema["type"] != "boolean":
        return "a boolean"
    if "enum" in schema and value not in schema["enum"]:
        return "not in the enum"
    if schema["type"] == "array":
        return next((why for one in value if (why := problem(one, schema["items"]))), None)
    return None


def known(value, text, schema):
    """Whether a value was said, or stated as the default of a description."""
    if value is True:
        return True
    if isinstance(value, list):
        return all(known(one, text, schema) for one in value)
    return speak(value) in text or f"Use {value} unless told otherwise." in schema.get("description", "")


class Dialogues(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.every = list(dialogues())

    def calls(self):
        for stratum, seed, dialogue in self.every:
            schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in dialogue.tools}
            said = dialogue.system
            for turn in dialogue.turns:
                said += "\n" + turn.user
                for step in turn.steps:
                    for name, arguments in step.calls:
                        yield (stratum, seed), schemas.get(name), arguments, said
                    said += "\n" + "\n".join(step.results)

    def test_calls_fit_their_schemas(self):
        for where, schema, arguments, _ in self.calls():
            self.assertIsNotNone(schema, where)
            self.assertLessEqual(set(schema["required"]), set(arguments), where)
            for name, value in arguments.items():
                self.assertIn(name, schema["properties"], where)
                self.assertIsNone(problem(value, schema["properties"][name]), (where, name, value))

    def test_no_value_comes_from_nowhere(self):
        for where, schema, arguments, said in self.calls():
            for name, value in arguments.items():
                self.assertTrue(known(value, said, schema["properties"][name]), (where, name, value, said))

    def test_answers_hold_what_they_must(self):
        for stratum, seed, dialogue in self.every:
            for turn in dialogue.turns:
                for wanted in turn.must:
                    self.assertIn(wanted, turn.answer, (stratum, seed))

    def test_what_answers_must_hold_stands_in_a_result(self):
        for stratum, seed, dialogue in self.every:
            for turn in dialogue.turns:
                if turn.steps:
                    results = " ".join(result for step in turn.steps for result in step.results)
                    for wanted in turn.must:
                        self.assertIn(wanted, results, (stratum, seed))

    def test_names_of_tools_are_unique_and_few(self):
        for stratum, seed, dialogue in self.every:
            names = [tool["function"]["name"] for tool in dialogue.tools]
            self.assertEqual(len(names), len(set(names)), (stratum, seed))
            self.assertLessEqual(len(names), 6)

    def test_no_slot_stays_open(self):
        for stratum, seed, dialogue in self.every:
            for turn in dialogue.turns:
                for text in (turn.user, turn.answer):
                    self.assertNotRegex(text, r"\{\w+\}|\[\w+: |  ", (stratum, seed))

    def test_every_scenario_and_every_count_of_tools_occurs(self):
        scenarios = collections.Counter(turn.scenario for _, _, one in self.every for turn in one.turns)
        self.assertEqual(set(scenarios), set(SCENARIOS))
        self.assertGreater(min(scenarios.values()), 20)
        self.assertEqual({len(one.tools) for _, _, one in self.every}, {0, 1, 2, 3, 4, 5, 6})

    def test_a_seed_is_a_dialogue(self):
        for seed in range(20):
            self.assertEqual(make_dialogue(seed), make_dialogue(seed))
        self.assertNotEqual(make_dialogue(1), make_dialogue(2))

    def test_easy_ones_are_short(self):
        for seed in range(100):
            dialogue = make_dialogue(seed, easy=True)
            self.assertEqual(len(dialogue.turns), 1)
            self.assertLessEqual(len(dialogue.tools), 2)

    def test_training_never_says_a_held_out_value(self):
        for seed in range(SEEDS):
            dialogue = make_dialogue(seed)
            for turn in dialogue.turns:
                for step in turn.steps:
                    for _, arguments in step.calls:
                        for value in arguments.values():
                            if isinstance(value, str) and any(sign.isdigit() for sign in value):
                                self.assertFalse(is_held(value), (seed, value))


if __name__ == "__main__":
    unittest.main()
