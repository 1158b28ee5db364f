"""A `jax.profiler` trace of some steps of a run, for TensorBoard or Perfetto."""

from pathlib import Path

import jax

from ssd_jax import logs


class Trace:
    """Records steps `steps` (numbered from 1) into `folder`; nothing where there are none.

    A resumed run records those that are still to come. The parts of a step are named by scopes:
    backbone, heads, match, mine, loss, update; and nms where an evaluation falls within.
    """

    def __init__(self, folder: Path, steps: range):
        self._folder, self._steps, self._alive = folder, steps, False

    def before(self, step: int, state: object) -> None:
        """Start or stop, since step `step` is about to begin on `state`."""
        if self._alive and step not in self._steps:
            jax.block_until_ready(state)  # the device may lag behind
            self.close()
        elif step in self._steps and not self._alive:
            jax.profiler.start_trace(self._folder)
            self._alive = True

    def close(self) -> None:
        """Write what was recorded."""
        if self._alive:
            jax.profiler.stop_trace()
            self._alive = False
            logs.say(f"profile    {self._folder}")
