"""Protocol 2 between the page and the server, the one definition in code of what docs/play.md says.

The client sends JSON texts, each a message of one of the classes below, and files as binary messages. The server sends
JSON texts, and frames as binary messages with a header of 32 bytes.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

PROTOCOL = 2
TEXT_LIMIT = 64 * 1024  # characters of a text message
MOST_ACTIONS = 20_000  # steps of a replay
CODES_AT_ONCE = 1_000  # steps that one answer to `codes` tells

# Closing codes: RFC 6455, section 7.4, and 4000 for our own.
BROKEN, FULL, IDLE = 1008, 1013, 4000

# Flags of a frame.
PROMPT, CUT, SNAPPED = 1, 4, 8
NO_CODE = 0xFFFF
_HEADER = struct.Struct("<BBHIIIIIII")
HEADER_BYTES = _HEADER.size


class ProtocolError(Exception):
    """A message that is none; the text says why, in one sentence."""


class Message(BaseModel):
    """What a client sends. Types are strict and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Settings(Message):
    """Settings of the steps to come; None for the world's own."""

    noise_level: float | None = None
    clamp: float | None = None
    temperature: float | None = None
    reencode_every: Annotated[int, Field(ge=0, le=10_000)] | None = None


Code = Annotated[int, Field(ge=0, lt=NO_CODE)]
Stamp = Annotated[int, Field(ge=0, lt=2**32)]
StepNumber = Annotated[int, Field(ge=0, lt=2**32)]
Runs = tuple[tuple[Code, Annotated[int, Field(ge=1, le=MOST_ACTIONS)]], ...]


class Mark(Message):
    """What happened to a branch after a step, beside codes: a snap, or other settings from then on."""

    step: StepNumber
    snap: bool = False
    settings: Settings | None = None


class Start(Message):
    """Begin anew from a prompt."""

    type: Literal["start"]
    prompt: Annotated[str, Field(max_length=200)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    actions: Annotated[Runs, Field(strict=False, max_length=MOST_ACTIONS)] = ()
    jump: bool = False
    compare: bool = False
    settings: Settings = Settings()
    marks: Annotated[tuple[Mark, ...], Field(strict=False, max_length=1000)] = ()


class Hold(Message):
    """The code that is held from now on."""

    type: Literal["hold"]
    code: Code | None
    stamp: Stamp


class Play(Message):
    """Run or pause."""

    type: Literal["play"]
    on: bool


class Speed(Message):
    """Frames a second, as a factor of the world's own."""

    type: Literal["speed"]
    factor: Annotated[float, Field(ge=0.1, le=8)]


class Step(Message):
    """One step while paused."""

    type: Literal["step"]
    code: Code | None = None


class Rest(Message):
    """What happens when no code is held."""

    type: Literal["rest"]
    code: Code | None


class Rewind(Message):
    """Go back to a step of this branch."""

    type: Literal["rewind"]
    step: StepNumber


class SetSettings(Settings):
    """Change settings."""

    type: Literal["settings"]

    def settings(self) -> Settings:
        """The settings alone."""
        return Settings(**self.model_dump(exclude={"type"}))


class Snap(Message):
    """Encode the newest frame and go on from that."""

    type: Literal["snap"]


class Film(Message):
    """Make a film of a stretch of this branch."""

    type: Literal["film"]
    kind: Literal["mp4", "gif"]
    first: StepNumber
    last: StepNumber
    overlay: bool = True


class Drop(Message):
    """Forget an uploaded prompt."""

    type: Literal["drop"]
    prompt: Annotated[str, Field(max_length=200)]


class Codes(Message):
    """Asks for the codes of this branch after a step."""

    type: Literal["codes"]
    after: StepNumber = 0


class Picture(Message):
    """Asks for the picture of a step of this branch."""

    type: Literal["picture"]
    step: StepNumber


class Ack(Message):
    """The frame message that was drawn last."""

    type: Literal["ack"]
    number: Annotated[int, Field(ge=0, lt=2**32)]


class Ping(Message):
    """Asks for a pong."""

    type: Literal["ping"]
    time: float


ClientMessage = (
    Start | Hold | Play | Speed | Step | Rest | Rewind | SetSettings | Snap | Film | Drop | Codes | Picture | Ack | Ping
)
_ADAPTER: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def parse(text: str) -> ClientMessage:
    """The message of a text.

    Raises:
        ProtocolError: it is none; says why.
    """
    if len(text) > TEXT_LIMIT:
        raise ProtocolError(f"a message has {len(text)} characters, and {TEXT_LIMIT} is the limit")
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise ProtocolError(f"{where}: {first['msg']}"[:120]) from error
    except RecursionError as error:  # deeply nested JSON
        raise ProtocolError("a message is nested too deeply") from error


@dataclass(frozen=True)
class FrameMessage:
    """A frame on its way to the page.

    Attributes:
        step: counted from the prompt's last frame = 0.
        code: the code that led here, None for none.
        flags: PROMPT, CUT, SNAPPED.
        jpeg: the frame.
        truth: the true frame beside it, None without.
        stamp: of the last `hold` that this frame knew.
        step_us: microseconds that the step took.
    """

    step: int
    code: int | None
    flags: int
    jpeg: bytes
    truth: bytes | None = None
    stamp: int = 0
    step_us: int = 0

    def pack(self, number: int, wait_us: int) -> bytes:
        """The binary message.

        Args:
            number: of the message; `ack` will name it.
            wait_us: microseconds from the beginning of the step to the sending.
        """
        code = NO_CODE if self.code is None else self.code
        truth = self.truth or b""
        times = [min(value, 2**32 - 1) for value in (self.step_us, wait_us)]
        sizes = len(self.jpeg), len(truth)
        header = _HEADER.pack(PROTOCOL, self.flags, code, self.step, number, self.stamp, *times, *sizes)
        return b"".join((header, self.jpeg, truth))


def unpack(message: bytes) -> tuple[FrameMessage, int, int]:
    """A frame message, its number and its wait in microseconds: the inverse of `FrameMessage.pack`.

    Raises:
        ProtocolError: the message is none, or is cut off.
    """
    if len(message) < HEADER_BYTES or message[0] != PROTOCOL:
        raise ProtocolError(f"this is no frame of protocol {PROTOCOL}")
    _, flags, code, step, number, stamp, step_us, wait_us, first, second = _HEADER.unpack_from(message)
    if len(message) != HEADER_BYTES + first + second:
        raise ProtocolError("the frame is cut off")
    jpeg, truth = message[HEADER_BYTES : HEADER_BYTES + first], message[HEADER_BYTES + first :]
    frame = FrameMessage(step, None if code == NO_CODE else code, flags, jpeg, truth or None, stamp, step_us)
    return frame, number, wait_us


def runs_of(codes: Iterable[int]) -> list[list[int]]:
    """Codes as [code, count] runs."""
    return [[code, sum(1 for _ in same)] for code, same in groupby(codes)]


def codes_of(runs: Sequence[tuple[int, int]]) -> list[int]:
    """Runs as the list of codes.

    Raises:
        ValueError: more than MOST_ACTIONS.
    """
    total = sum(count for _, count in runs)
    if total > MOST_ACTIONS:
        raise ValueError(f"A replay of {total} steps is too long: {MOST_ACTIONS} is the limit.")
    return [code for code, count in runs for _ in range(count)]
