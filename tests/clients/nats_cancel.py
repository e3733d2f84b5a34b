"""A stream on NATS is cancelled by its subject. The model counts slowly."""

import asyncio
import json

import nats.errors
from common import body, connect, messages, tell_later


async def main():
    """Cancels a running request, and one that does not run."""
    connection = await connect()
    cancel = "thalamus.v1.cancel.to-be-cancelled"
    headers = {"Thalamus-Request-Id": "to-be-cancelled"}
    heard = []
    async for message in messages(
        connection, "thalamus.v1.chat", body(stream=True), headers=headers
    ):
        heard.append(message)
        if len(heard) == 5:
            await tell_later("running")
            reply = await connection.request(cancel, b"", timeout=30)
            assert json.loads(reply.data) == {"cancelled": True}, reply.data
    last = heard[-1]
    assert last.headers["Nats-Service-Error-Code"] == "499", last.headers
    assert json.loads(last.data)["error"]["code"] == "cancelled", last.data
    await tell_later("vanished")
    try:
        await connection.request(cancel, b"", timeout=30)
        raise AssertionError("somebody answered for a request that is over")
    except nats.errors.NoRespondersError:
        pass
    await connection.close()


asyncio.run(main())
