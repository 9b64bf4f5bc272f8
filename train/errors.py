"""Errors at the border: bad files, flags and folders, told in the user's words."""


class UserError(Exception):
    """Something that the user can put right. The command line prints it as one line and exits with 2.

    Args:
        subject: what is at fault, as the user named it (a path, a flag).
        fault: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, subject: object, fault: str, remedy: str) -> None:
        super().__init__(f"{subject}: {fault}. {remedy}")
        self.subject, self.fault, self.remedy = str(subject), fault, remedy
