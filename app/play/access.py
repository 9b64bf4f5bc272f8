"""Who may talk to the server: its own page on this machine, or whoever has the token.

A page on another site must not reach the server through a visitor's browser. On loopback the `Host` must therefore be a
name of loopback (a foreign name that was bound to 127.0.0.1 is refused), and a WebSocket's `Origin`, which browsers
always send, must be the server's own. On other addresses everything but `/static/` wants the token.
"""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(18)


class Guard:
    """ASGI middleware: refuses foreign requests, adds headers of security to all answers.

    Args:
        app: what it guards.
        token: that every path but `/static/` wants; None on loopback.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse with 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if (fault := self.fault(scope)) is not None:
            if scope["type"] == "websocket":
                await receive()  # the handshake
                await send({"type": "websocket.close", "code": 1008, "reason": fault})
            else:
                await PlainTextResponse(f"{fault}\n", 403)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, with_headers)

    def fault(self, scope: Scope) -> str | None:
        """Why a request is refused, None where it is not."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self._token is None:
            if host_of(headers) not in LOOPBACK:
                return "This server answers on localhost alone."
        elif not scope["path"].startswith("/static/"):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if not secrets.compare_digest(given.encode(), self._token.encode()):
                return "The address lacks its token: use the one that 'genie play' printed."
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower():
            return "This page is not the server's own."
        return None


def host_of(headers: Mapping[str, str]) -> str:
    """The name in `Host`, without its port."""
    try:
        return (urlsplit(f"//{headers.get('host', '')}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    return host.lower().strip("[]") in LOOPBACK
