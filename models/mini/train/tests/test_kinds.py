"""The kinds of tools: their number, that phrasings and parameters agree, and that nothing held out is shared."""

import unittest

from ask import phrases
from invent import OBJECTS, VERBS
from kinds import SLOT, all_kinds, lacking, slots
from values import CLOSED, OPEN, draw, is_held, is_open, seeded


class Kinds(unittest.TestCase):
    def test_there_are_enough(self):
        kinds = all_kinds()
        self.assertGreaterEqual(len([one for one in kinds if not one.held]), 50)
        self.assertGreaterEqual(len([one for one in kinds if one.held]), 8)
        self.assertEqual(len({one.name for one in kinds}), len(kinds))

    def test_every_request_speaks_of_all_that_is_needed(self):
        for kind in all_kinds():
            needed = {one.key for one in kind.parameters if one.required}
            keys = {one.key for one in kind.parameters}
            for template in kind.asks:
                always, optional = slots(template)
                with self.subTest(kind=kind.name, template=template):
                    self.assertLessEqual(needed, always)
                    self.assertLessEqual(always | optional, keys)
                    self.assertFalse(optional & needed)

    def test_a_request_that_lacks_something_lacks_one_required_key(self):
        every = all_kinds()
        self.assertGreater(len([kind for kind in every if kind.lacks]), 50)
        for kind in every:
            needed = {one.key for one in kind.parameters if one.required}
            for line in kind.lacks:
                key, template = lacking(line)
                always, optional = slots(template)
                with self.subTest(kind=kind.name, line=line):
                    self.assertIn(key, needed)
                    self.assertEqual(always, needed - {key})
                    self.assertFalse(optional & needed)

    def test_every_answer_holds_the_first_result(self):
        for kind in all_kinds():
            known = {name for name, _ in kind.gives}
            known |= {one.key for one in kind.parameters if one.required}
            for template in kind.tells:
                with self.subTest(kind=kind.name, template=template):
                    self.assertIn(kind.gives[0][0], SLOT.findall(template))
                    self.assertLessEqual(set(SLOT.findall(template)), known)

    def test_each_has_several_names_phrasings_and_failures(self):
        for kind in all_kinds():
            with self.subTest(kind=kind.name):
                self.assertGreaterEqual(len(kind.names), 3)
                self.assertGreaterEqual(len(kind.about), 2)
                self.assertGreaterEqual(len(kind.asks), 3)
                self.assertGreaterEqual(len(kind.tells), 2)
                self.assertTrue(kind.fails)


class HeldOut(unittest.TestCase):
    def test_names_of_kinds_are_apart(self):
        trained = {name for kind in all_kinds() if not kind.held for name in kind.of("names", False)}
        unseen = {name for kind in all_kinds() for name in kind.of("names", True)}
        self.assertFalse(trained & unseen)

    def test_phrasings_are_apart(self):
        trained = {one for kind in all_kinds() if not kind.held for one in kind.of("asks", False)}
        unseen = {one for kind in all_kinds() for one in kind.of("asks", True)}
        self.assertFalse(trained & unseen)
        for name, every in phrases().items():
            self.assertNotIn(every[-1], every[:-1], name)

    def test_values_are_apart(self):
        rng = seeded("test")
        for source in [*OPEN, "int(1,999)", "num(1,50)"]:
            with self.subTest(source=source):
                self.assertTrue(is_open(source))
                trained = {str(draw(source, rng)) for _ in range(300)}
                unseen = {str(draw(source, rng, held=True)) for _ in range(30)}
                self.assertFalse(trained & unseen)

    def test_few_values_are_closed(self):
        for source in [*CLOSED, "on,off", "int(1,9)"]:
            self.assertFalse(is_open(source), source)

    def test_invented_words_are_on_both_sides(self):
        for words in (VERBS, OBJECTS):
            held = [one for one in words if is_held(one)]
            self.assertTrue(2 <= len(held) <= len(words) // 2, held)


if __name__ == "__main__":
    unittest.main()
