"""A client's NATS connection ends in the middle of its stream. The model counts slowly."""

import asyncio

from common import body, connect, messages, tell_later


async def main():
    """Listens a moment and leaves."""
    connection = await connect()
    count = 0
    async for _message in messages(connection, "thalamus.v1.chat", body(stream=True)):
        count += 1
        if count == 5:
            break
    await tell_later("running")
    await connection.close()
    await tell_later("vanished")


asyncio.run(main())
