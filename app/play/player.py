"""One page and its game: messages in, steps at their time, frames out.

The reader obeys at once what is a matter of this object alone (a code held, a pause); what touches the game waits in a
queue for the driver, which also makes the steps. The game itself is touched by the world's thread alone.
"""

import asyncio
import base64
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from starlette.websockets import WebSocket

from app.play import protocol
from app.play.about import LIMITS, about_world, rest_code
from app.play.errands import Errands
from app.play.game import Game
from app.play.outbox import GONE, Closed, Outbox, SocketChannel
from app.play.protocol import BROKEN, IDLE, Mark, ProtocolError, Settings, codes_of
from app.play.shared import Shared

T = TypeVar("T")

COMMANDS = 64  # that may wait
BUSY_EVERY = 50  # steps of a jump between two notes of how far it is
HURRY = 0.5  # of a period: the least time between two steps when a key was pressed
QUESTIONS = protocol.Codes | protocol.Picture | protocol.Film  # commands that leave the game as it is


class Player:
    """A connection. `run` returns when it has ended."""

    def __init__(self, shared: Shared, socket: WebSocket) -> None:
        self._shared, self._socket = shared, socket
        self._game = Game(shared.world)
        self._outbox = Outbox()
        self._commands: deque[protocol.ClientMessage] = deque()
        self._wake = asyncio.Event()
        self._playing, self._parked, self._speed = True, False, 1.0
        self._held: int | None = None
        self._tapped: int | None = None  # pressed since the last step, perhaps let go again
        self._rest = rest_code(shared.world.codes)
        self._stamp = 0
        self._led: deque[int] = deque()
        self._marks: deque[Mark] = deque()
        self._last = self._due = 0.0
        self._touched = time.monotonic()
        self._errands = Errands(shared, self._outbox)

    async def run(self) -> None:
        """Talk until the page goes, breaks the protocol, or is idle for too long."""
        self._greet()
        tasks = [asyncio.create_task(part) for part in self._parts()]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            ending = next(error for task in done if (error := task.exception()) is not None)
        finally:
            for task in (*tasks, *self._errands.tasks):
                task.cancel()
            await asyncio.gather(*tasks, *self._errands.tasks, return_exceptions=True)
            self._errands.leave()
        if not isinstance(ending, Closed):
            with suppress(*GONE):
                await self._socket.close(1011, "the server failed")
            raise ending
        if ending.code is not None:
            with suppress(*GONE):
                await self._socket.close(ending.code, ending.reason[:120])

    def _parts(self) -> list[Any]:
        return [self._read(), self._drive(), self._outbox.run(SocketChannel(self._socket)), self._watch()]

    def _greet(self) -> None:
        shared = self._shared
        self._outbox.text(
            type="hello",
            protocol=protocol.PROTOCOL,
            **about_world(shared.world, shared.name),
            rest=self._rest,
            prompts=[prompt.about() for prompt in shared.gallery.own()],
            limits=LIMITS,
        )

    # Reading

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise Closed(None)
            if (data := message.get("bytes")) is not None:
                self._touched = time.monotonic()
                self._errands.upload(data)
                continue
            try:
                self._hear(protocol.parse(message.get("text") or ""))
            except ProtocolError as error:
                raise Closed(BROKEN, str(error)) from error

    def _hear(self, message: protocol.ClientMessage) -> None:
        match message:
            case protocol.Ack(number=number):
                self._outbox.ack(number)
                self._wake.set()
                return
            case protocol.Ping(time=sent):
                self._outbox.text(type="pong", time=sent)
                return
        if not isinstance(message, protocol.Codes):  # which the page asks for by itself while it plays
            self._touched = time.monotonic()
        match message:
            case protocol.Hold(code=code, stamp=stamp):
                if self._known("hold", code):
                    self._hold(code, stamp)
            case protocol.Play(on=on):
                self._playing, self._parked = on, False
                self._tell()
            case protocol.Speed(factor=factor):
                self._speed = factor
                self._tell()
            case protocol.Rest(code=code):
                if self._known("rest", code):
                    self._rest = code
                    self._tell()
            case protocol.Drop(prompt=prompt):
                if not self._errands.drop(prompt):
                    self._refuse("drop", "There is no such uploaded prompt of yours.")
            case _:
                if len(self._commands) < COMMANDS:
                    self._commands.append(message)
                else:
                    self._refuse(message.type, "Too much was asked for at once. Wait a moment.")
        self._wake.set()

    def _known(self, what: str, code: int | None) -> bool:
        if code is not None and code >= len(self._shared.world.codes):
            self._refuse(what, f"This world has the codes 0 to {len(self._shared.world.codes) - 1}, and no {code}.")
            return False
        return True

    def _hold(self, code: int | None, stamp: int) -> None:
        led = bool(self._led)
        self._led.clear()
        self._marks.clear()
        pressed = code is not None and code != self._held
        self._held, self._stamp = code, stamp
        if code is not None:
            self._parked, self._tapped = False, code
        if pressed:  # the answer to a key shall not wait for the whole of the period
            self._due = min(self._due, self._last + self._period * HURRY)
        if led:
            self._tell()

    # Driving

    @property
    def _period(self) -> float:
        return 1 / (self._shared.world.fps * self._speed)

    async def _drive(self) -> None:
        while True:
            self._wake.clear()
            if self._commands:
                await self._obey(self._commands.popleft())
                await asyncio.sleep(0)  # some commands wait for nothing: the other players have their turn
                continue
            code = self._next_code()
            delay = None if code is None else self._due - time.perf_counter()
            if code is not None and delay is not None and delay <= 0:
                await self._step(code)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):  # not wait_for, which in Python 3.11 may swallow a cancellation
                    await self._wake.wait()

    def _next_code(self) -> int | None:
        """The code of the next step; None where the world waits."""
        if self._game.prompt is None or not self._playing or self._parked or self._outbox.stalled:
            return None
        if self._led:
            return self._led[0]
        return next((code for code in (self._held, self._tapped, self._rest) if code is not None), None)

    async def _step(self, code: int) -> None:
        began, stamp = time.perf_counter(), self._stamp
        self._tapped = None
        await self._keep_marks()
        if led := bool(self._led):
            self._led.popleft()
        frame = await self._call(self._game.step, code)
        self._last, period = began, self._period
        self._due = began + period if self._due < began - period else self._due + period
        self._outbox.frame(replace(frame, stamp=stamp), began)
        if led and not self._led:
            await self._keep_marks()
            self._parked = True
            self._tell()

    async def _keep_marks(self) -> None:
        """Do what a replay did after the step where the game stands."""
        while self._marks and self._marks[0].step <= self._game.step_number:
            mark = self._marks.popleft()
            if mark.snap and self._game.step_number:
                await self._call(self._game.snap)
            if mark.settings is not None:
                await self._call(self._game.change, mark.settings)

    async def _obey(self, command: protocol.ClientMessage) -> None:
        try:
            match command:
                case protocol.Start():
                    await self._start(command)
                case protocol.Step(code=code):
                    await self._single(code)
                case protocol.Rewind(step=step):
                    await self._rewind(step)
                case protocol.SetSettings():
                    await self._call(self._game.change, command.settings())
                    self._tell()
                case protocol.Snap():
                    began = time.perf_counter()
                    self._outbox.frame(await self._call(self._game.snap), began)
                case protocol.Film():
                    self._errands.film(command, self._game.stretch(command.first, command.last))
                case protocol.Codes(after=after):
                    self._tell_codes(min(after, self._game.step_number))
                case protocol.Picture(step=step):
                    self._tell_picture(step)
        except ValueError as error:
            self._refuse(command.type, str(error))

    async def _start(self, command: protocol.Start) -> None:
        prompt = self._shared.gallery.find(command.prompt)
        if prompt is None:
            raise ValueError("There is no such prompt here any more: choose another, or drop the file again.")
        if command.compare and command.actions:
            raise ValueError("A comparison is led by the clip's own codes: it takes no actions.")
        codes = codes_of(command.actions)
        if codes and max(codes) >= len(self._shared.world.codes):
            raise ValueError(f"This world has no code {max(codes)}.")
        await self._call(self._game.check, command.marks)
        start = self._game.start
        led = await self._call(start, prompt, command.seed, command.settings, compare=command.compare)
        self._outbox.forget_frames()
        self._led = deque(led or codes)
        self._marks = deque(sorted(command.marks, key=lambda mark: mark.step))
        self._parked, self._tapped = False, None
        self._due = time.perf_counter() + self._period
        game = self._game
        self._outbox.text(
            type="started", prompt=prompt.id, name=prompt.name, uploaded=prompt.uploaded, seed=game.seed,
            frames=game.frames_used, truth=game.truth_frames,
        )  # fmt: skip
        if command.jump:
            await self._jump()
        else:
            self._outbox.frame(game.newest(), time.perf_counter())
        self._tell()

    async def _jump(self) -> None:
        """Compute what leads, without showing it. A command that changes the game ends it; questions wait."""
        total, began = len(self._led), time.perf_counter()
        while self._led and all(isinstance(command, QUESTIONS) for command in self._commands):
            await self._keep_marks()
            if not self._led:  # a key came meanwhile
                break
            await self._call(self._game.step, self._led.popleft())
            if (done := total - len(self._led)) % BUSY_EVERY == 0:
                self._outbox.text(type="busy", what="jump", done=done, total=total)
        await self._keep_marks()
        self._outbox.frame(self._game.newest(protocol.CUT), began)

    async def _single(self, code: int | None) -> None:
        if self._game.prompt is None:
            raise ValueError("The world stands nowhere yet: choose a prompt.")
        fallback = self._rest if self._held is None else self._held
        leads = self._led[0] if self._led else fallback
        chosen = leads if code is None else code
        if chosen is None:
            raise ValueError("No code is held, and none is chosen for resting.")
        if chosen >= len(self._shared.world.codes):
            raise ValueError(f"This world has no code {chosen}.")
        if code is not None:
            self._led.clear()
            self._marks.clear()
        self._playing = False
        await self._step(chosen)
        self._tell()

    async def _rewind(self, step: int) -> None:
        began = time.perf_counter()
        parts = self._game.rewind(step)
        while (frame := await self._call(next, parts)) is None:
            pass
        self._playing = False
        self._led.clear()
        self._marks.clear()
        self._outbox.forget_frames()
        self._outbox.frame(frame, began)
        self._tell()

    # Telling

    def _tell(self) -> None:
        settings = self._game.settings.model_dump()
        about = {"playing": self._playing, "parked": self._parked, "speed": self._speed, "rest": self._rest}
        self._outbox.text(type="state", **about, led=len(self._led), settings=settings)

    def _tell_codes(self, after: int) -> None:
        game = self._game
        last = min(after + protocol.CODES_AT_ONCE, game.step_number)
        self._outbox.text(
            type="codes",
            prompt=game.prompt.id if game.prompt else None,
            seed=game.seed,
            step=game.step_number,
            after=after,
            actions=game.codes(after, last),
            settings=_given(game.first_settings),
            marks=[mark.model_dump(exclude_none=True) for mark in game.marks(after, last)],
        )

    def _tell_picture(self, step: int) -> None:
        ((_, _, jpeg),) = self._game.stretch(step, step)
        self._outbox.text(type="picture", step=step, jpeg=base64.b64encode(jpeg).decode())

    def _refuse(self, what: str, reason: str) -> None:
        self._outbox.refuse(what, reason)

    async def _watch(self) -> None:
        limit = self._shared.idle_seconds
        while True:
            left = self._touched + limit - time.monotonic()
            if left <= 0:
                raise Closed(IDLE, f"nothing was done for {limit / 60:.0f} minutes")
            await asyncio.sleep(left)

    async def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._shared.thread.call(function, *args, **kwargs)


def _given(settings: Settings) -> dict[str, float]:
    return settings.model_dump(exclude_none=True)
