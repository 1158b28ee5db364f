"""The devices of a slice of TPUs that is not attached, from libtpu's description of it."""

import importlib.util
import os
from typing import NamedTuple

import jax
from jax.experimental import topologies

from ssd_jax.ahead_of_time.chips import CHIPS, Chip
from ssd_jax.errors import ConfigError, ResourceError

# libtpu reads these when it is loaded. Without a TPU it would ask the metadata of a cloud machine,
# log that it got no answer, and let one process at a time load it.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Topology(NamedTuple):
    """A slice: its devices are those of JAX, a core or a chip each."""

    name: str
    chip: Chip
    devices: list[jax.Device]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return len(self.devices) // self.chip.cores

    @property
    def processes(self) -> int:
        """Number of hosts, each with a process."""
        return len({device.process_index for device in self.devices})


def load_topology(name: str) -> Topology:
    """The slice that `name` describes, as v5e:4x4, for this process to compile for.

    Sets the CPU as JAX's platform, so JAX must not have started on another one.

    Raises:
        ConfigError: no such chip or shape.
        ResourceError: libtpu is not installed, or another process holds it.
    """
    kind = name.partition(":")[0]
    if kind not in CHIPS:
        raise ConfigError(
            f"--topology={name}: write one of {', '.join(CHIPS)} and a shape, v5e:4x4"
        )
    _check_libtpu()
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    jax.config.update("jax_platforms", "cpu")
    # A program from the cache would come without its compile time.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except jax.errors.JaxRuntimeError as error:
        raise _explain(name, str(error)) from error
    return Topology(name, CHIPS[kind], list(described.devices))


def _check_libtpu() -> None:
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise ResourceError(
            "the compiler for TPUs is not installed; it needs no TPU:\n"
            f'pip install "jax[tpu]=={jax.__version__}"'
        )


def _explain(name: str, message: str) -> ConfigError | ResourceError:
    if "lockfile" in message:
        return ResourceError(
            "another process has loaded libtpu, and ALLOW_MULTIPLE_LIBTPU_LOAD="
            f"{os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD']} lets one process at a time do so: set it "
            "to 1, or wait for the other process; if there is none, delete /tmp/libtpu_lockfile"
        )
    first_line = message.splitlines()[0]
    return ConfigError(f"--topology={name}: not a shape of this chip for libtpu: {first_line}")
