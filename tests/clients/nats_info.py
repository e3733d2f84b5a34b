"""The server is a NATS micro service: it can be pinged, described and counted."""

import asyncio
import json

from common import MODEL, body, connect


async def main():
    """Asks what `nats micro` asks."""
    connection = await connect()

    async def service(verb):
        reply = await connection.request(f"$SRV.{verb}.thalamus-gateway", b"", timeout=30)
        answer = json.loads(reply.data)
        assert answer["type"] == f"io.nats.micro.v1.{verb.lower()}_response", answer
        assert answer["name"] == "thalamus-gateway", answer
        return answer

    await service("PING")
    for _ in range(100):  # a model's own endpoints appear a moment after the model
        info = await service("INFO")
        assert info["metadata"]["api"] == "v1", info
        own = [e for e in info["endpoints"] if (e.get("metadata") or {}).get("model") == MODEL]
        if own:
            break
        await asyncio.sleep(0.1)
    assert own, info
    chat = next(one for one in own if one["subject"].startswith("thalamus.v1.chat."))
    assert int(chat["metadata"]["context"]) > 0 and chat["metadata"]["stream"] == "true", chat

    # the subject is read, not built
    reply = await connection.request(chat["subject"], body(), timeout=30)
    assert "Nats-Service-Error-Code" not in (reply.headers or {}), reply.headers
    await connection.request(chat["subject"], body(n=0), timeout=30)
    for _ in range(100):  # a request is counted after its reply
        stats = await service("STATS")
        counted = next(one for one in stats["endpoints"] if one["subject"] == chat["subject"])
        if counted["num_requests"] == 2:
            break
        await asyncio.sleep(0.05)
    assert (counted["num_requests"], counted["num_errors"]) == (2, 1), counted
    await connection.close()


asyncio.run(main())
