"""The errors that a user can cause. A command prints their message alone, without a traceback."""


class FoundryError(Exception):
    """Base of every error that is about the user's input and not about our code."""


class ConfigError(FoundryError):
    """The configuration is wrong. The message lists every finding, not only the first."""


class ModelError(FoundryError):
    """A model module, its weights or its data are not what they should be."""


class ProgramError(FoundryError):
    """A ``.pte`` or a Core ML program is malformed, unsafe, or holds something unsupported."""


class DamagedError(FoundryError):
    """A result is not what its step wrote: cut short, or changed since."""

    def __init__(self, path: object, why: object) -> None:
        super().__init__(f"{path} is damaged: {why}. Delete it and run again: it is made anew.")


class InputError(FoundryError):
    """A program was called with inputs whose names, shapes or dtypes it does not take."""
