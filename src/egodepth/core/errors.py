"""The one kind of error that the command line prints as a single line."""


class EgodepthError(Exception):
    """Something the user can put right: the message says what was got and what to do instead."""


class EgodepthWarning(UserWarning):
    """Something to know that stops nothing: the command line prints it as a single line."""
