"""Asks over NATS, prints as it comes: nats_chat.py URL USER PASSWORD_FILE MODEL PROMPT."""

import asyncio
import json
import sys

import nats


async def main(url, user, password_file, model, prompt):
    password = open(password_file, encoding="utf-8").read().strip()
    connection = await nats.connect(url, user=user, password=password)
    inbox = connection.new_inbox()
    replies = await connection.subscribe(inbox)
    request = {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    await connection.publish("thalamus.v1.chat", json.dumps(request).encode(), reply=inbox)
    while (message := await replies.next_msg(timeout=60)).data:  # an empty message is the end
        if message.headers and "Nats-Service-Error" in message.headers:
            sys.exit(message.headers["Nats-Service-Error"])
        for choice in json.loads(message.data).get("choices", []):
            print(choice["delta"].get("content") or "", end="", flush=True)
    print()
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
