"""ASGI applications of others, which answer no page of another site."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from movierec_platform.domain.browsers import refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Guarded:
    """The application, asked only by these names and by no page of another site; the rest is answered 403."""

    def __init__(self, application: Any, names: Collection[str], links: bool = False) -> None:
        """With `links`, people may come to its pages by a link on those of other sites."""
        self._application: Application = application
        self._names = frozenset(names)
        self._links = links

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]}
            if why := refusal(headers, self._names, self._links):
                await _refuse(scope["type"], why, send)
                return
        await self._application(scope, receive, send)


async def _refuse(kind: str, why: str, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the handshake is answered 403
        return
    text = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]  # its body was not read
    await send({"type": "http.response.start", "status": 403, "headers": text})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
