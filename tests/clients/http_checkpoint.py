"""A real checkpoint over HTTP says what its reference says: ids in, greedy, ids out."""

import json
import os

from common import HELLO, MODEL, client

api = client()
with open(os.environ["TEST_EXPECTED"], encoding="utf-8") as file:
    cases = json.load(file)["cases"]
assert cases

for case in cases:
    expected = case["greedy_ids"]
    answer = api.completions.create(
        model=MODEL,
        prompt=case["prompt_ids"],
        max_tokens=len(expected),
        temperature=0,
        extra_body={"ignore_eos": True, "return_token_ids": True},
    )
    assert answer.choices[0].token_ids == expected, (case["name"], answer)

# chat through the checkpoint's own template: the words are noise
answer = api.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, temperature=0)
assert answer.usage.completion_tokens <= 8, answer
