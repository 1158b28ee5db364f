"""A `jax.profiler` trace of some steps of a run, for TensorBoard or Perfetto."""

from pathlib import Path

import jax

from ssd_jax.runtime.progress import log_line


class StepTrace:
    """Records the steps of the range `steps`, numbered from 1, into `folder`.

    A resumed run records the steps that are left. The parts of a step are named by scopes:
    backbone, heads, match, mine, loss, update; and nms where an evaluation falls within.
    """

    def __init__(self, folder: Path, steps: range):
        self._folder, self._steps, self._is_recording = folder, steps, False

    def before_step(self, step: int, state: object) -> None:
        """Start or stop recording, before step `step` is run on `state`."""
        if self._is_recording and step not in self._steps:
            jax.block_until_ready(state)  # the device may still be computing earlier steps
            self.close()
        elif step in self._steps and not self._is_recording:
            jax.profiler.start_trace(self._folder)
            self._is_recording = True

    def close(self) -> None:
        """Stop recording and write the trace."""
        if self._is_recording:
            jax.profiler.stop_trace()
            self._is_recording = False
            log_line(f"profile    {self._folder}")
