"""One family of user errors.

Each message is one line that says what was wrong and what to do about it; the command line prints it alone, without a
traceback, and exits with `exit_code`. Anything that is not a `SumiError` is a defect of sumi.
"""


class SumiError(Exception):
    """A fault in what was asked or found, not in sumi; the message is for the person who asked."""

    exit_code = 2


class RequestError(SumiError):
    """A field of a request is out of range or does not fit the model."""


class PromptError(RequestError):
    """A prompt cannot be read or turned into tokens. `at`: where in it the fault is, counted from 0, if it is in one place."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message)
        self.at = at


class CheckpointError(SumiError):
    """Weights, a vocabulary or a model's description are missing, damaged or of the wrong shape."""


class ImageError(SumiError):
    """A picture cannot be read, or cannot be made of what the model gave."""


class OutputError(SumiError):
    """A result cannot be written."""


class RecordError(SumiError):
    """The record of a run cannot be read, or is of another run or version than is needed."""


class RecipeError(SumiError):
    """A training recipe cannot be read or asks for something that does not exist."""


class DependencyError(SumiError):
    """An optional package is needed and not installed; the message says what to install."""


class EngineError(SumiError):
    """The engine's folder cannot be used, or it is not in a state to do what was asked."""


class JobError(EngineError):
    """There is no such job, or no such picture."""


class ConflictError(EngineError):
    """A job is not in a state for what is asked, or something else was asked for by the same key."""


class ModelWarning(UserWarning):
    """A model is used although something about it was not as expected; the message says what."""
