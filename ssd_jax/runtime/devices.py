"""Devices: one training step on one, several, or the devices of several processes.

Two runners with the same methods: `Pmap` (one program for each device, collectives by axis name)
and `Jit` (one program for all devices; the batch is sharded and XLA places the collectives). A
step is written once, as a plain function with an optional axis name.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssd_jax.errors import ConfigError

Tree = Any


class Pmap:
    """`jax.pmap` over the devices of every process; the state is stacked per device."""

    axis_name = "batch"

    def __init__(self, devices: list[jax.Device] | None = None):
        self.devices = devices or jax.devices()
        mesh = _mesh(self.devices, self.axis_name)
        self._sharded = NamedSharding(mesh, PartitionSpec(self.axis_name))
        self._local_count = len(mesh.local_devices)

    def compile(self, step: Callable) -> Callable:
        """A step (state, batch) -> (state, metrics); the state's memory is reused."""
        return jax.pmap(step, self.axis_name, devices=self.devices, donate_argnums=0)

    def compile_predict(self, predict: Callable) -> Callable:
        """A function (variables, batch or images) -> tree of [B, …]."""
        return jax.pmap(predict, self.axis_name, devices=self.devices)

    def replicate(self, tree: Tree) -> Tree:
        """Host or single-device arrays -> a copy on each device."""

        def spread(leaf):
            copies = np.broadcast_to(np.asarray(leaf), (self._local_count, *leaf.shape))
            return jax.make_array_from_process_local_data(self._sharded, copies)

        return jax.tree.map(spread, tree)

    def replicated_shapes(self, tree: Tree) -> Tree:
        """Shapes of `replicate`'s result on all devices, to compile without arrays."""
        count = len(self.devices)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), tree
        )

    def unreplicate(self, tree: Tree) -> Tree:
        """The first device's values, on that device, in memory that no later step reuses."""
        # `leaf[0]` of the whole would gather from all devices.
        return _first_rows(jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, tree))

    def shard(self, batch: dict) -> dict:
        """This process's rows of a batch [b, …] -> [devices, b / devices, …] on the devices."""

        def spread(rows):
            rows = rows.reshape(self._local_count, -1, *rows.shape[1:])
            return jax.make_array_from_process_local_data(self._sharded, rows)

        return {name: spread(rows) for name, rows in batch.items()}

    def sharded_shapes(self, batch: dict) -> dict:
        """Shapes of the global batch [B, …] after `shard`, to compile without arrays."""
        count = len(self.devices)
        return {
            name: jax.ShapeDtypeStruct((count, rows.shape[0] // count, *rows.shape[1:]), rows.dtype)
            for name, rows in batch.items()
        }

    def to_host(self, tree: Tree) -> Tree:
        """This process's rows [b, …] of a result, as NumPy."""
        # Of pmap's [1, b, …] the [b, …].
        return _local_rows(tree, lambda shards: np.concatenate([shard[0] for shard in shards]))

    def fetch(self, value: jax.Array) -> np.ndarray:
        """What is the same on every device, as NumPy, in one transfer."""
        return jax.device_get(value.addressable_data(0))[0, ...]

    def scalar(self, value: jax.Array) -> float:
        """A number that is the same on every device."""
        return float(self.fetch(value))


class Jit:
    """`jax.jit` with the batch sharded over all devices and the state replicated."""

    axis_name = None

    def __init__(self, devices: list[jax.Device] | None = None):
        self.devices = devices or jax.devices()
        mesh = _mesh(self.devices, "batch")
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._sharded = NamedSharding(mesh, PartitionSpec("batch"))

    def compile(self, step: Callable) -> Callable:
        """A step (state, batch) -> (state, metrics); the state's memory is reused."""
        return jax.jit(step, donate_argnums=0, out_shardings=(self._replicated, None))

    def compile_predict(self, predict: Callable) -> Callable:
        """A function (variables, batch or images) -> tree of [B, …]."""
        return jax.jit(predict, out_shardings=self._sharded)

    def replicate(self, tree: Tree) -> Tree:
        """Host or single-device arrays -> a copy on each device."""

        def spread(leaf):
            # A fresh copy: a donated buffer must have no other owner.
            return jax.make_array_from_process_local_data(
                self._replicated, np.array(leaf), leaf.shape
            )

        return jax.tree.map(spread, tree)

    def replicated_shapes(self, tree: Tree) -> Tree:
        """Shapes of `replicate`'s result on all devices, to compile without arrays."""
        return jax.tree.map(partial(_with_sharding, self._replicated), tree)

    def unreplicate(self, tree: Tree) -> Tree:
        """The first device's values, on that device, in memory that no later step reuses."""
        return _copies(jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, tree))

    def shard(self, batch: dict) -> dict:
        """This process's rows of a batch [b, …], on the devices."""
        spread = partial(jax.make_array_from_process_local_data, self._sharded)
        return {name: spread(rows) for name, rows in batch.items()}

    def sharded_shapes(self, batch: dict) -> dict:
        """Shapes of the global batch [B, …] after `shard`, to compile without arrays."""
        return jax.tree.map(partial(_with_sharding, self._sharded), batch)

    def to_host(self, tree: Tree) -> Tree:
        """This process's rows [b, …] of a result, as NumPy."""
        return _local_rows(tree, np.concatenate)

    def fetch(self, value: jax.Array) -> np.ndarray:
        """What is the same on every device, as NumPy, in one transfer."""
        return jax.device_get(value.addressable_data(0))

    def scalar(self, value: jax.Array) -> float:
        """A number that is the same on every device."""
        return float(self.fetch(value))


Runner = Pmap | Jit


# One program for the whole tree, so that the caller continues while the device copies.
_first_rows = jax.jit(partial(jax.tree.map, lambda leaf: leaf[0]))
_copies = jax.jit(partial(jax.tree.map, jnp.copy))


def get_runner(name: str, devices: list[jax.Device] | None = None) -> Runner:
    """The runner that `config.parallel` names, on all devices of all processes by default."""
    return {"pmap": Pmap, "jit": Jit}[name](devices)


def check_batch_size(batch_size: int, norm_batch_size: int = 0) -> None:
    """Raise ConfigError for a batch, or groups of its images, that do not divide over devices."""
    count = jax.device_count()
    if batch_size % count:
        raise ConfigError(
            f"config.batch_size={batch_size} does not divide over {count} devices; "
            f"try {round_up_to_device_count(batch_size)}"
        )
    if norm_batch_size and batch_size // count % norm_batch_size:
        raise ConfigError(
            f"config.model.norm_batch_size={norm_batch_size} does not divide the "
            f"{batch_size // count} images of each of {count} devices; try {batch_size // count}"
        )


def round_up_to_device_count(rows: int) -> int:
    """`rows` rounded up to a multiple of the number of devices."""
    count = jax.device_count()
    return -(-rows // count) * count


def global_sum(tree: Tree, axis_name: str | None) -> Tree:
    """Sum over the devices of a pmapped program; without an axis the whole batch is here."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def local_sharding() -> jax.sharding.Sharding:
    """Sharding of an unreplicated state: the first device of this process."""
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def describe_devices(batch_size: int) -> str:
    """The devices of all processes and the batch of each, as text."""
    devices, count = jax.local_devices(), jax.process_count()
    here = f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
    here += f" in each of {count} processes" if count > 1 else ""
    return f"{here}, batch {batch_size}, {batch_size // jax.device_count()} a device"


def on_cpu() -> AbstractContextManager:
    """Inside, computations run on the CPU of the host, whatever the default device is.

    Where JAX_PLATFORMS leaves out the CPU, they run on the default device.
    """
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return nullcontext()


def peak_memory_gib() -> float | None:
    """Peak memory of a device of this process in GiB; None where the backend does not count it."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peak = max(each.get("peak_bytes_in_use", 0) for each in stats)
    return peak / 2**30 or None


def _mesh(devices: list[jax.Device], axis_name: str) -> jax.sharding.Mesh:
    return jax.make_mesh((len(devices),), (axis_name,), (AxisType.Auto,), devices=devices)


def _with_sharding(sharding: NamedSharding, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _local_rows(tree: Tree, join: Callable[[list[np.ndarray]], np.ndarray]) -> Tree:
    """The shards of this process, fetched at once; those of an array joined in order of rows."""

    def shards(leaf):
        in_order = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return [shard.data for shard in in_order]

    leaves, structure = jax.tree.flatten(tree)
    fetched = jax.device_get([shards(leaf) for leaf in leaves])
    return jax.tree.unflatten(structure, map(join, fetched))
