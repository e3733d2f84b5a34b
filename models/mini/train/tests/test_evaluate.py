"""The evaluation: full marks for right outputs, none for wrong ones, through a server that plays from the book."""

import json
import threading
import unittest
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

from dialogue import make_dialogue
from evaluate import Server, play, shares
from render import messages, pieces, prompt
from tools import STRATA

SEEDS = 8


def book():
    """What to answer to each prompt, as a right model would."""
    found = {}
    for stratum, split in STRATA.items():
        for seed in range(SEEDS):
            dialogue = make_dialogue(seed, split, stratum)
            for number, turn in enumerate(dialogue.turns, 1):
                said = messages(dialogue, number)
                learnt = [text for text, learn in pieces(said, dialogue.tools) if learn]
                at = [i for i, one in enumerate(said) if one["role"] == "assistant"][-len(learnt):]
                for i, text in zip(at, learnt):
                    found[prompt(said[:i], dialogue.tools)] = text
    return found


class Book(BaseHTTPRequestHandler):
    """Answers completions from the book; `spoil` may change what it says."""

    answers, spoil = {}, staticmethod(lambda text: text)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = type(self).spoil(self.answers[asked["prompt"]])
        body = json.dumps({"choices": [{"text": text}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


class Evaluation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Book.answers = book()
        cls.http = HTTPServer(("127.0.0.1", 0), Book)
        threading.Thread(target=cls.http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{cls.http.server_port}"
        cls.server = Server(url, "book", "completions", "", 10)

    @classmethod
    def tearDownClass(cls):
        cls.http.shutdown()
        cls.http.server_close()

    def scores(self, spoil):
        Book.spoil = staticmethod(spoil)
        whole = Counter()
        for stratum in STRATA:
            for seed in range(SEEDS):
                for counts in play(self.server, stratum, seed)[1].values():
                    whole.update(counts)
        self.assertEqual(whole["errors"], 0)
        return shares(whole)

    def test_right_outputs_score_all(self):
        found = self.scores(lambda text: text)
        for name in ("share_calls_right", "share_answer_right", "share_well_formed"):
            self.assertEqual(found[name], 1.0, name)

    def test_wrong_arguments_are_seen(self):
        found = self.scores(lambda text: text.replace('"arguments": {', '"arguments": {"x": 1, '))
        self.assertLess(found["share_calls_right"], 0.6)

    def test_wrong_answers_are_seen(self):
        found = self.scores(lambda text: text if "<tool_call>" in text else "<think>\n\n</think>\n\nDone.")
        self.assertEqual(found["share_calls_right"], 1.0)
        self.assertLess(found["share_answer_right"], 0.2)

    def test_broken_calls_are_seen(self):
        found = self.scores(lambda text: text.replace("}\n</tool_call>", "\n</tool_call>"))
        self.assertLess(found["share_well_formed"], 0.6)
        self.assertLess(found["share_calls_right"], 0.6)


if __name__ == "__main__":
    unittest.main()
