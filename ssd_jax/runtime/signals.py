"""Signals that ask a program to stop: one handler for training and for sweeps."""

import signal
from collections.abc import Callable, Iterable


class StopSignals:
    """Used as a context manager: notes a stop signal in `received`, and its number in `number`,
    and calls `on_signal`.

    With `second_is_default` a second signal of the same kind has the effect that it had before,
    which for most is to end the program at once.
    """

    def __init__(
        self,
        numbers: Iterable[int],
        on_signal: Callable[[], None] | None = None,
        second_is_default: bool = True,
    ):
        self.received, self.number = False, 0
        self._numbers, self._on_signal = tuple(numbers), on_signal
        self._second_is_default = second_is_default

    def __enter__(self) -> "StopSignals":
        self._old = {number: signal.signal(number, self._handle) for number in self._numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        # Nothing is printed here: the signal may have come in the middle of a print.
        self.received, self.number = True, number
        if self._on_signal:
            self._on_signal()
        if self._second_is_default:
            signal.signal(number, self._old[number])
