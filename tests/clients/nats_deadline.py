"""A deadline on NATS ends a slow answer, streamed or not. The model counts slowly."""

import asyncio
import json

from common import body, connect, messages


def check(message):
    """That a reply says that time is up."""
    assert message.headers["Nats-Service-Error-Code"] == "504", message.headers
    assert json.loads(message.data)["error"]["code"] == "deadline_exceeded", message.data


async def main():
    """Asks with too little time."""
    connection = await connect()
    soon = {"Thalamus-Timeout-Ms": "400"}
    subject = "thalamus.v1.chat"
    heard = [message async for message in messages(connection, subject, body(stream=True), soon)]
    *chunks, last = heard
    said = [json.loads(chunk.data)["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(said).startswith("1 2 3 "), said
    check(last)
    check(await connection.request(subject, body(), timeout=30, headers=soon))
    await connection.close()


asyncio.run(main())
