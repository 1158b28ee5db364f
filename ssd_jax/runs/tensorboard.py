"""Event files of TensorBoard: the numbers of `metrics.jsonl` again, and pictures."""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ssd_jax.runtime.progress import log_line

_FLUSH_PERIOD_S = 30.0


class TensorBoard:
    """Writes numbers and pictures by step into `folder`.

    What TensorBoard shows is written elsewhere too. Where it cannot be written, that is said once
    and the run goes on without; nothing here waits, as `tensorboardX.SummaryWriter` does for its
    thread, which ends when a disk is full. On resume at `first_step`, later steps are hidden.
    """

    def __init__(self, folder: Path, first_step: int):
        # Here, because it imports PyTorch where that is installed: a second or two.
        from tensorboardX import RecordWriter, summary
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder, self._writer, self._flushed = folder, None, 0.0
        self._event, self._summary = Event, summary
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = RecordWriter(str(folder.absolute() / name))
        except OSError as error:
            self._give_up(error)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=first_step + 1, session_log=start))

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """The numbers of a step; those that are None are left out."""
        for name, value in values.items():
            if value is not None:
                self._write_summary(step, self._summary.scalar(name, value))

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """A picture of a step."""
        self._write_summary(step, self._summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        """Write what is buffered, and close the file."""
        if self._writer is not None:
            try:
                self._writer.flush()
                self._writer.close()
            except OSError as error:
                self._give_up(error)

    def _write_summary(self, step: int, summary) -> None:
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(event.SerializeToString())
            if time.monotonic() - self._flushed > _FLUSH_PERIOD_S:
                self._writer.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self._writer is not None:
            with suppress(OSError):  # it tries once more to write what is buffered
                self._writer.close()
            self._writer = None
        log_line(
            f"cannot write to {self._folder} ({error.strerror}): this run goes on without "
            "TensorBoard; metrics.jsonl holds the same numbers"
        )
