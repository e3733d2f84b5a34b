"""What client scripts share: how to reach the server under test, and how to speak with the test.

The test names the server in variables; nothing here looks for one, and nothing here judges.
"""

import asyncio
import json
import os
import sys

import nats
import openai

MODEL = os.environ["TEST_MODEL"]
HELLO = [{"role": "user", "content": "Hello, thalamus!"}]


def client(**more):
    """An OpenAI client that shows every error instead of trying again."""
    more.setdefault("api_key", os.environ.get("TEST_API_KEY", "none"))
    return openai.OpenAI(base_url=os.environ["TEST_URL"], max_retries=0, timeout=60, **more)


async def connect():
    """A NATS connection with the credential that `thalamus up --processes` printed."""
    with open(os.environ["TEST_NATS_PASSWORD_FILE"], encoding="utf-8") as file:
        password = file.read().strip()
    return await nats.connect(os.environ["TEST_NATS"], user="thalamus", password=password)


def body(**fields):
    """A chat request as bytes."""
    return json.dumps({"model": MODEL, "messages": HELLO, **fields}).encode()


async def messages(connection, subject, payload, headers=None):
    """The messages of one streamed reply, without the empty one that ends it."""
    inbox = connection.new_inbox()
    replies = await connection.subscribe(inbox)
    await connection.publish(subject, payload, reply=inbox, headers=headers)
    while True:
        message = await replies.next_msg(timeout=30)
        if not message.data and not message.headers:
            break
        yield message
    await replies.unsubscribe()


def tell(word):
    """Tells the test where this script is, and waits for its answer."""
    print(word, flush=True)
    sys.stdin.readline()


async def tell_later(word):
    """The same, while a NATS connection goes on."""
    await asyncio.to_thread(tell, word)


def refused(kind, call, *args, **fields):
    """The error that this call must end with."""
    try:
        call(*args, **fields)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected, for {fields}")
