"""A client closes its HTTP stream in the middle. The model counts slowly."""

from common import HELLO, MODEL, client, tell

stream = client().chat.completions.create(model=MODEL, messages=HELLO, stream=True)
said = ""
for chunk in stream:
    said += chunk.choices[0].delta.content or ""
    if len(said) >= 20:
        break
assert "1 2 3 4 5 6 7 8 9 10".startswith(said[:20]), said
tell("running")
stream.close()
tell("vanished")
