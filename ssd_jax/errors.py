"""What can go wrong for a user, and the exit code that each kind of failure ends the program with.

Every message says what is wrong, where, and what to do, in a line or two; entry points print it
without a traceback. The codes are documented in docs/operations.md.
"""


class SsdError(Exception):
    """A failure that the user can act on; `exit_code` is the process's exit status."""

    exit_code = 1


class ConfigError(SsdError):
    """Usage or configuration."""

    exit_code = 2


class DataError(SsdError):
    """A data set, an image or an annotation; `reason` is its kind, by which many are counted."""

    exit_code = 3

    def __init__(self, message: str, reason: str = "damaged or missing"):
        super().__init__(message)
        self.reason = reason


class CheckpointError(SsdError):
    """A checkpoint or a weight file."""

    exit_code = 4


class NonFiniteLossError(SsdError):
    """The loss became NaN or infinite."""

    exit_code = 5


class ResourceError(SsdError):
    """Disk full, working directory read-only or in use."""

    exit_code = 6


class Interrupted(SsdError):
    """Stopped by a signal after saving: start the same command again."""

    exit_code = 42


class StoppedBySignal(SsdError):
    """Ended early by a signal; what is done is kept. The exit code is 128 + its number."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number
