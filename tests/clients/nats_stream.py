"""Streamed chat on NATS: numbered chunks, then an empty message. The model echoes."""

import asyncio
import json

from common import HELLO, body, connect, messages


async def main():
    """Reads one stream."""
    connection = await connect()
    asked = body(stream=True, stream_options={"include_usage": True})
    heard = [message async for message in messages(connection, "thalamus.v1.chat", asked)]
    numbers = [int(message.headers["Thalamus-Seq"]) for message in heard]
    assert numbers == list(range(len(heard))), numbers
    assert heard[0].headers["Thalamus-Request-Id"], heard[0].headers
    chunks = [json.loads(message.data) for message in heard]
    *others, last = chunks
    assert last["choices"] == [] and last["usage"]["completion_tokens"] > 0, last
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in others)
    assert said == HELLO[0]["content"], said
    ends = [chunk["choices"][0]["finish_reason"] for chunk in others]
    assert [end for end in ends if end] == ["stop"], ends
    await connection.close()


asyncio.run(main())
