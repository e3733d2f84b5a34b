"""Streamed chat and completions over HTTP, with and without usage. The model echoes."""

from common import HELLO, MODEL, client

api = client()
text = HELLO[0]["content"]

chunks = list(api.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
assert all(chunk.object == "chat.completion.chunk" for chunk in chunks), chunks
assert len({chunk.id for chunk in chunks}) == 1, chunks
assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text, chunks
ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason]
assert ends == ["stop"], ends
assert all(chunk.usage is None for chunk in chunks), chunks

options = {"include_usage": True}
chunks = list(
    api.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options=options)
)
*others, last = chunks
assert last.choices == [], last
assert all(chunk.choices and chunk.usage is None for chunk in others), others
whole = api.chat.completions.create(model=MODEL, messages=HELLO)
for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
    assert getattr(last.usage, field) == getattr(whole.usage, field), (field, last, whole)
# the second time, whole blocks of the prompt are there already, if it has any
assert last.usage.prompt_tokens_details.cached_tokens is not None, last

pieces = list(api.completions.create(model=MODEL, prompt="abc", max_tokens=8, stream=True))
assert pieces[-1].choices[0].finish_reason, pieces
