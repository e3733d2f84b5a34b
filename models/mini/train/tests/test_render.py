"""The text of a dialogue: the template writes the same, the parser reads it back, only answers are learnt."""

import json
import unittest
from pathlib import Path

from dialogue import make_dialogue
from evaluate import from_message, results_for, wire
from render import END, messages, parse_output, pieces, prompt
from tools import STRATA, TRAIN

TEMPLATE = Path(__file__).parents[2] / "chat_template.jinja"
SEEDS = 150

try:
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    ImmutableSandboxedEnvironment = None

try:
    from tokens import make_tokenizer
except ImportError:
    make_tokenizer = None


def refuse(message):
    raise ValueError(message)


def template():
    """The template as Hugging Face's libraries run it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def every():
    for stratum in ["train", *STRATA]:
        for seed in range(SEEDS):
            yield make_dialogue(seed, STRATA.get(stratum, TRAIN), stratum)


@unittest.skipIf(ImmutableSandboxedEnvironment is None, "jinja2 is not installed")
class Template(unittest.TestCase):
    def test_it_writes_what_the_generator_writes(self):
        made = template()
        for dialogue in every():
            for turns in range(1, len(dialogue.turns) + 1):
                said = messages(dialogue, turns)
                wanted = "".join(text for text, _ in pieces(said, dialogue.tools, dialogue.thinking))
                for form in (said, [wire(message) for message in said]):
                    self.assertEqual(made.render(messages=form, tools=dialogue.tools or None), wanted)

    def test_it_ends_where_the_model_begins(self):
        made = template()
        for seed in range(SEEDS):
            dialogue = make_dialogue(seed)
            said = messages(dialogue, 0) + [{"role": "user", "content": dialogue.turns[0].user}]
            common = dict(messages=said, tools=dialogue.tools or None, add_generation_prompt=True)
            self.assertEqual(made.render(**common), prompt(said, dialogue.tools))
            without = made.render(**common, enable_thinking=False)
            self.assertEqual(without, prompt(said, dialogue.tools, thinking=False))

    def test_it_takes_parts_and_thoughts_within_the_text(self):
        said = [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "<think>\nc\n</think>\n\nd"},
        ]
        wanted = f"<|im_start|>user\nab{END}\n<|im_start|>assistant\n<think>\nc\n</think>\n\nd{END}\n"
        self.assertEqual(template().render(messages=said), wanted)

    def test_it_refuses_unknown_roles(self):
        with self.assertRaisesRegex(ValueError, "critic"):
            template().render(messages=[{"role": "critic", "content": "no"}])


class Parser(unittest.TestCase):
    def test_what_is_written_is_read_back(self):
        for dialogue in every():
            turn = dialogue.turns[-1]
            learnt = [text for text, learn in pieces(messages(dialogue), dialogue.tools, dialogue.thinking) if learn]
            self.assertEqual(len(learnt), len(turn.steps) + 1)
            for text, step in zip(learnt, turn.steps):
                output = parse_output(text)
                self.assertTrue(output.well_formed)
                self.assertEqual(output.calls, step.calls)
                self.assertEqual(results_for(output.calls, step), step.results)
                self.assertEqual(output.thought, step.thought if dialogue.thinking else "")
            last = parse_output(learnt[-1])
            self.assertEqual((last.content, last.calls), (turn.answer, []))

    def test_broken_calls_are_seen(self):
        broken = [
            '<tool_call>\n{"name": "a", "arguments": {}\n</tool_call>', '<tool_call>\n{"name": "a"}\n</tool_call>',
            '<tool_call>\n{"name": "a", "arguments": {}}', '<tool_call>\n{"name": "a", "arguments": []}\n</tool_call>',
            '<tool_call>\n"a"\n</tool_call>', "<think>\nno end",
        ]
        for text in broken:
            self.assertFalse(parse_output(text).well_formed, text)

    def test_wrong_calls_have_no_results(self):
        step = next(turn.steps[0] for one in every() for turn in one.turns if turn.scenario == "several")
        self.assertEqual(results_for(step.calls[::-1], step), step.results[::-1])
        name, arguments = step.calls[0]
        for wrong in ([], step.calls[:1], step.calls * 2, [(name, {**arguments, "x": 1}), step.calls[1]]):
            self.assertIsNone(results_for(wrong, step))

    def test_a_served_message_is_read_alike(self):
        call = {"function": {"name": "a", "arguments": '{"b": 1}'}}
        output = from_message({"content": None, "tool_calls": [call]})
        self.assertEqual((output.calls, output.well_formed), ([("a", {"b": 1})], True))
        self.assertFalse(from_message({"content": "<tool_call>"}).well_formed)


class Learnt(unittest.TestCase):
    def test_only_what_the_assistant_says_now_is_learnt(self):
        for dialogue in every():
            found = pieces(messages(dialogue), dialogue.tools, dialogue.thinking)
            for (before, _), (text, learn) in zip(found, found[1:]):
                if learn:
                    self.assertIn("<|im_start|>assistant\n", before)
                    self.assertTrue(text.endswith(END))
                    self.assertNotIn("<|im_start|>", text)


@unittest.skipIf(make_tokenizer is None, "tokenizers is not installed")
class Pieces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tokenizer = make_tokenizer(1500)

    def test_pieces_encode_as_the_whole_text_does(self):
        from stream import encode

        for seed in range(60):
            dialogue = make_dialogue(seed)
            found = pieces(messages(dialogue), dialogue.tools, dialogue.thinking)
            whole = self.tokenizer.encode("".join(text for text, _ in found)).ids
            self.assertEqual(encode(self.tokenizer, found)[0], whole, seed)

    def test_text_survives_and_digits_stand_alone(self):
        for text in ["12.5 + 903", "Grüße, 東京! \n\n x", '{"a": [1, 22]}']:
            self.assertEqual(self.tokenizer.decode(self.tokenizer.encode(text).ids), text)
        vocabulary = self.tokenizer.get_vocab()
        self.assertEqual(len(vocabulary), 2048)
        self.assertFalse([one for one in vocabulary if sum(sign.isdigit() for sign in one) and len(one) > 1])

    def test_rows_are_full_and_resume_at_a_dialogue(self):
        from stream import encode, rows, sample

        stream = rows(self.tokenizer, 2048, 7)
        for count, *row in (next(stream) for _ in range(3)):
            self.assertEqual([len(part) for part in row], [2048] * 3)
        _, again, *_ = next(rows(self.tokenizer, 2048, 7, first=count))
        ids, _ = encode(self.tokenizer, sample(make_dialogue(f"7:{count}")))
        self.assertEqual(again[: len(ids)], ids)

    def test_a_value_has_the_same_ids_wherever_it_stands(self):
        for value in ["Oslo", "green helmet", "Kettle of Bremo", "BD-4071", "2028-07-18", "3.5"]:
            ids = self.tokenizer.encode(value).ids
            for text in [f"in {value}?", f'{{"place": "{value}"}}', f"It is {value}.", f"{value}, please", f"({value}"]:
                found = self.tokenizer.encode(text).ids
                self.assertTrue(any(found[i : i + len(ids)] == ids for i in range(len(found))), text)

    def test_of_an_earlier_turn_all_but_the_first_id_is_learnt(self):
        from stream import ASSISTANT, IGNORE, encode

        dialogue = next(one for one in map(make_dialogue, range(99)) if len(one.turns) == 2 and one.turns[0].steps)
        found = pieces(messages(dialogue), dialogue.tools, dialogue.thinking)
        before = next(i for i, (text, _) in enumerate(found) if text == ASSISTANT)
        ids, labels = encode(self.tokenizer, found)
        begin = len(encode(self.tokenizer, found[: before + 1])[0])
        end = len(encode(self.tokenizer, found[: before + 2])[0])
        self.assertEqual(labels[begin:end], [IGNORE, *ids[begin + 1 : end]])

    def test_workers_share_no_dialogue(self):
        from stream import rows

        one, two = (next(rows(self.tokenizer, 2048, 7, worker, 2))[1] for worker in range(2))
        self.assertNotEqual(one, two)


if __name__ == "__main__":
    unittest.main()
