"""A deadline over HTTP ends a slow answer, streamed or not. The model counts slowly."""

import openai
from common import HELLO, MODEL, client, refused

api = client()
create = api.chat.completions.create
soon = {"x-request-timeout-ms": "400"}

said = ""
try:
    for chunk in create(model=MODEL, messages=HELLO, stream=True, extra_headers=soon):
        said += chunk.choices[0].delta.content or ""
    raise AssertionError(f"it ended well: {said}")
except openai.APIError as error:
    assert error.code == "deadline_exceeded", error
assert said.startswith("1 2 3 "), said

error = refused(
    openai.InternalServerError, create, model=MODEL, messages=HELLO, extra_headers=soon
)
assert error.status_code == 504 and error.code == "deadline_exceeded", error

error = refused(
    openai.BadRequestError,
    create,
    model=MODEL,
    messages=HELLO,
    extra_headers={"x-request-timeout-ms": "soon"},
)
assert error.param == "x-request-timeout-ms", error
