"""Errors that a user can cause and fix. Their messages are shown without a traceback."""


class FoundryError(Exception):
    """Base of all errors in the user's input, as opposed to our code."""


class ConfigError(FoundryError):
    """The configuration is wrong. The message lists all findings."""


class ModelError(FoundryError):
    """A model module, its weights or its data are wrong or missing."""


class ProgramError(FoundryError):
    """A ``.pte`` or a Core ML program is malformed, unsafe or unsupported."""


class LimitError(ProgramError):
    """A program needs more memory, instructions or time than its limits allow."""


class DamagedError(FoundryError):
    """A result was truncated or modified after its step wrote it.

    Args:
        path: the file.
        why: what is wrong with it, without a full stop.
    """

    def __init__(self, path: object, why: object) -> None:
        self.path, self.why = str(path), str(why)
        super().__init__(f"{path} is damaged: {why}. Delete it and rerun; it will be rebuilt.")


class InputError(FoundryError):
    """A program was called with inputs of other names, shapes or dtypes than it takes."""
