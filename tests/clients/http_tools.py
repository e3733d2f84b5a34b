"""A tool round trip over HTTP, in one body and streamed. The model echoes, so the user tells it what to call."""

import json

from common import MODEL, client

api = client()
CALL = '<think>hm</think><tool_call>{"name": "clock", "arguments": {"zone": "UTC"}}</tool_call>'
PARAMETERS = {"type": "object", "properties": {"zone": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": PARAMETERS}}]
asked = {"model": MODEL, "messages": [{"role": "user", "content": CALL}], "tools": TOOLS}

choice = api.chat.completions.create(**asked).choices[0]
(call,) = choice.message.tool_calls
assert choice.finish_reason == "tool_calls", choice
assert choice.message.content is None, choice
assert choice.message.reasoning_content == "hm", choice
assert call.function.name == "clock" and json.loads(call.function.arguments) == {"zone": "UTC"}, call

with api.chat.completions.stream(**asked) as stream:
    events = [event.type for event in stream]
    streamed = stream.get_final_completion().choices[0]
assert "tool_calls.function.arguments.done" in events, events
assert streamed.finish_reason == "tool_calls", streamed
assert streamed.message.tool_calls[0].function.arguments == call.function.arguments, streamed

result = {"role": "tool", "tool_call_id": call.id, "content": "It is noon."}
messages = [*asked["messages"], choice.message.model_dump(exclude_none=True), result]
final = api.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0]
assert final.finish_reason == "stop" and final.message.content == "It is noon.", final
