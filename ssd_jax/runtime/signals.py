"""Signals that ask a program to stop: one handler for all commands that can stop halfway."""

import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager


class StopSignals:
    """Used as a context manager: notes a stop signal in `received`, and its number in `number`,
    and calls `on_signal`.

    With `second_is_default` a second signal of the same kind has the effect that it had before,
    which for most is to end the program at once. `notice` is a line for standard error.
    """

    def __init__(
        self,
        numbers: Iterable[int],
        on_signal: Callable[[], None] | None = None,
        second_is_default: bool = True,
        notice: str = "",
    ):
        self.received, self.number = False, 0
        self._numbers, self._on_signal = tuple(numbers), on_signal
        self._second_is_default = second_is_default
        self._notice = f"\n{notice}\n".encode() if notice else b""

    def __enter__(self) -> "StopSignals":
        self._old = {number: signal.signal(number, self._handle) for number in self._numbers}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame) -> None:
        # Not printed, since the signal may have come in the middle of a print.
        if not self.received and self._notice:
            os.write(2, self._notice)
        self.received, self.number = True, number
        if self._on_signal:
            self._on_signal()
        if self._second_is_default:
            signal.signal(number, self._old[number])


@contextmanager
def end_at_second_signal(numbers: Collection[int]) -> Iterator[None]:
    """While it is entered, the second of these signals ends the program at once.

    The exit code is 128 + the signal's number. Python calls a handler only when the main thread
    returns from what it waits for, as a batch on the devices; here another thread learns of it.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # Python demands it
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        received = 0
        while number := os.read(reader, 1):  # empty once the other end is closed
            received += number[0] in numbers
            if received > 1:
                os.write(2, b"interrupted at once: what was not saved is lost\n")
                os._exit(128 + number[0])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()
        os.close(reader)
