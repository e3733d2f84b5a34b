"""Refusals on NATS: code and line in headers, the OpenAI error as body, and the end of a stream."""

import asyncio
import json

from common import body, connect, messages


def check(message, code, name):
    """That a reply is this error."""
    assert message.headers["Nats-Service-Error-Code"] == str(code), message.headers
    line = message.headers["Nats-Service-Error"]
    assert 0 < len(line) <= 200 and "\n" not in line, line
    error = json.loads(message.data)["error"]
    assert error["code"] == name, error


async def main():
    """Makes every kind of mistake."""
    connection = await connect()

    async def refused(payload, code, name, subject="thalamus.v1.chat", headers=None):
        reply = await connection.request(subject, payload, timeout=30, headers=headers)
        check(reply, code, name)

    await refused(body(temperature=3), 400, "invalid_value")
    await refused(body(tools=[{"type": "web_search"}]), 400, "unsupported_parameter")
    await refused(body(model="no/such"), 404, "model_not_found")
    await refused(b"{", 400, "invalid_json")
    await refused(b"\xff\x00garbage", 400, "invalid_json")
    await refused(b"[" * 100_000, 400, "invalid_json")
    long = [{"role": "user", "content": "x" * 40_000}]
    await refused(body(messages=long), 400, "context_length_exceeded")
    await refused(body(), 400, "invalid_value", headers={"Thalamus-Timeout-Ms": "soon"})
    await refused(body(), 400, "invalid_value", headers={"Thalamus-Request-Id": "a.b"})

    heard = messages(connection, "thalamus.v1.chat", body(stream=True, n=0))
    (only,) = [message async for message in heard]
    check(only, 400, "invalid_value")
    await connection.close()


asyncio.run(main())
