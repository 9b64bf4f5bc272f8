"""A world for a command: its faults become the one line that a person sees."""

from typing import TYPE_CHECKING

from app.commands.devices import check_kind
from train.errors import UserError

if TYPE_CHECKING:
    from torch_bridge.world import World


def load_world(path: str, device: str = "auto") -> "World":
    """The world of a folder, or of the run in a folder, on the device of a `--device`.

    Raises:
        UserError: there is no such world, it is damaged or newer than this program, or there is no such device.
    """
    check_kind(device)
    from torch_bridge.world import World
    from train.devices import choose_devices

    choose_devices(device)
    try:
        return World.load(path, device=device)
    except ValueError as error:
        raise user_error(path, error, "Update this program, or pack the world anew with 'genie train'.") from error
    except OSError as error:
        raise UserError(path, f"it cannot be read ({error.strerror or error})", "Check its permissions.") from error


def user_error(
    subject: str, error: ValueError, remedy_else: str = "Run the command with --help for what it takes."
) -> UserError:
    """The `UserError` of a lower layer's error, whose text is "fault[. Remedy]" or "/a/path: fault[. Remedy]"."""
    text = str(error)
    head, colon, rest = text.partition(": ")
    if colon and head.startswith(subject):
        subject, text = head, rest
    fault, dot, remedy = text.partition(". ")
    return UserError(subject, fault.rstrip("."), remedy if dot else remedy_else)
