"""Answer HEAD wherever GET is answered: the same status and headers, no body (RFC 9110)."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call `app` with a GET request, and send no body.

    When the headers are sent, the app sees a disconnect. So a stream without an end stops there.
    """
    sent = asyncio.Event()

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            sent.set()

    async def receive_until_sent() -> Message:
        waits = [asyncio.ensure_future(receive()), asyncio.ensure_future(sent.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if sent.is_set() else waits[0].result()  # type: ignore[return-value]
        finally:
            for wait in waits:
                wait.cancel()

    await app(scope, receive_until_sent, send_head)
