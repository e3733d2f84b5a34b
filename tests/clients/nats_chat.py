"""Chat on NATS, as one reply, by the general subject and by the model's own. The model echoes."""

import asyncio
import json

from common import HELLO, MODEL, body, connect


async def main():
    """Asks, and reads the replies."""
    connection = await connect()
    token = MODEL.replace("/", "%2F")
    for subject in ("thalamus.v1.chat", f"thalamus.v1.chat.{token}"):
        headers = {"Thalamus-Request-Id": "my-own-id"}
        reply = await connection.request(subject, body(), timeout=30, headers=headers)
        assert reply.headers["Thalamus-Request-Id"] == "my-own-id", reply.headers
        answer = json.loads(reply.data)
        assert answer["object"] == "chat.completion", answer
        assert answer["choices"][0]["message"]["content"] == HELLO[0]["content"], answer
        assert answer["usage"]["total_tokens"] > 0, answer

    reply = await connection.request("thalamus.v1.models", b"", timeout=30)
    assert [model["id"] for model in json.loads(reply.data)["data"]] == [MODEL], reply.data

    text = json.dumps({"model": MODEL, "prompt": "abc"}).encode()
    reply = await connection.request("thalamus.v1.tokenize", text, timeout=30)
    tokens = json.loads(reply.data)["tokens"]
    ids = json.dumps({"model": MODEL, "tokens": tokens}).encode()
    reply = await connection.request("thalamus.v1.detokenize", ids, timeout=30)
    assert "abc" in json.loads(reply.data)["prompt"], reply.data
    await connection.close()


asyncio.run(main())
