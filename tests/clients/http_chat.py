"""Chat and completions over HTTP, as one body. The model echoes."""

from common import HELLO, MODEL, client

api = client()

answer = api.chat.completions.create(model=MODEL, messages=HELLO)
choice = answer.choices[0]
assert answer.object == "chat.completion" and answer.model == MODEL, answer
assert choice.message.role == "assistant", choice
assert choice.message.content == HELLO[0]["content"], choice
assert choice.finish_reason == "stop", choice
assert answer.usage.prompt_tokens > len(HELLO[0]["content"]), answer.usage
assert answer.usage.completion_tokens >= len(HELLO[0]["content"]), answer.usage
assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

short = api.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=3)
assert short.choices[0].message.content == HELLO[0]["content"][:3], short
assert short.choices[0].finish_reason == "length", short
assert short.usage.completion_tokens == 3, short.usage

both = api.completions.create(model=MODEL, prompt=["one", "two"], max_tokens=8)
assert [choice.index for choice in both.choices] == [0, 1], both
assert both.object == "text_completion", both
