"""ASGI applications of others, which answer no page of another site, and tell what stack they are of."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from movierec_platform.config import STACK_HEADER
from movierec_platform.domain.browsers import refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Guarded:
    """The application, asked only by these names and by no page of another site; the rest is answered 403.

    Its answers carry the id of the stack.
    """

    def __init__(self, application: Any, names: Collection[str], links: bool = False, stack_id: str = "") -> None:
        """With `links`, people may come to its pages by a link on those of other sites."""
        self._header = (STACK_HEADER.lower().encode(), stack_id.encode())
        self._application: Application = application
        self._names = frozenset(names)
        self._links = links

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]}
            if why := refusal(headers, self._names, self._links):
                await _refuse(scope["type"], why, send)
                return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        await self._application(scope, receive, send_marked)


async def _refuse(kind: str, why: str, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the handshake is answered 403
        return
    text = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]  # its body was not read
    await send({"type": "http.response.start", "status": 403, "headers": text})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
