"""Seed, n, stop and logprobs over HTTP. The model's letters depend on seed and choice."""

from common import HELLO, MODEL, client

api = client()


def ask(**fields):
    """The choices of one request."""
    return api.chat.completions.create(model=MODEL, messages=HELLO, **fields).choices


def text(**fields):
    """The text of its only choice."""
    (choice,) = ask(**fields)
    return choice.message.content


once = text(seed=7)
assert len(once) == 40, once
assert text(seed=7) == once
assert text(seed=8) != once

three = ask(seed=7, n=3)
assert [choice.index for choice in three] == [0, 1, 2], three
assert three[0].message.content == once, three
assert len({choice.message.content for choice in three}) == 3, three
streamed = ["", "", ""]
for chunk in api.chat.completions.create(model=MODEL, messages=HELLO, seed=7, n=3, stream=True):
    streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
assert streamed == [choice.message.content for choice in three], streamed

stop = once[20:23]
(choice,) = ask(seed=7, stop=[stop, "never said"])
assert choice.message.content == once[: once.index(stop)], choice
assert choice.finish_reason == "stop", choice

(choice,) = ask(seed=7, max_tokens=5, logprobs=True, top_logprobs=2)
rows = choice.logprobs.content
assert "".join(row.token for row in rows) == once[:5], rows
assert all(row.logprob <= 0 and len(row.top_logprobs) == 2 for row in rows), rows
(choice,) = ask(seed=7, max_tokens=5)
assert choice.logprobs is None, choice
