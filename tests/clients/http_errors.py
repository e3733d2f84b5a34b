"""Every kind of refusal over HTTP has the status, type, code and parameter that the SDK knows."""

import openai
from common import HELLO, MODEL, client, refused

api = client()
create = api.chat.completions.create


def bad(param, **fields):
    """A 400 that names its parameter."""
    error = refused(openai.BadRequestError, create, **{"model": MODEL, "messages": HELLO, **fields})
    assert error.param == param and error.type == "invalid_request_error", error
    assert error.response.headers["x-should-retry"] == "false", error.response.headers
    return error


bad("temperature", temperature=3)
bad("n", n=0)
bad("top_p", top_p=-0.5)
bad("top_logprobs", logprobs=True, top_logprobs=21)
bad("messages", messages=[])
bad("messages[0].role", messages=[{"role": "nobody", "content": "x"}])
bad("max_tokens", max_tokens=-1)
bad("stop", stop=[""])
bad("tools[0].function.name", tools=[{"type": "function", "function": {"name": "no name"}}])
assert "auto" in bad("tool_choice", tool_choice="required").message
bad("response_format", response_format={"type": "json_object"})
bad("stream_options", stream_options={"include_usage": True})

long = [{"role": "user", "content": "x" * 40_000}]
assert bad("messages", messages=long).code == "context_length_exceeded"

error = refused(openai.NotFoundError, create, model="no/such", messages=HELLO)
assert error.code == "model_not_found" and error.param == "model", error

for key in ("th_" + "wrong" * 8, "none", "th_"):
    stranger = client(api_key=key)
    error = refused(
        openai.AuthenticationError, stranger.chat.completions.create, model=MODEL, messages=HELLO
    )
    assert error.type == "authentication_error" and "th_wrong" not in str(error), error

# a mistake costs nobody else anything
assert create(model=MODEL, messages=HELLO).choices[0].message.content == HELLO[0]["content"]
