"""Compile small functions for 2 x 2 TPU v5e, and store their texts in programs/.

    PYTHONPATH=. python tests/ahead_of_time/make_programs.py

Needs `pip install "jax[tpu]"`. Another version of libtpu may give other numbers: correct the tests.
"""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from ssd_jax.ahead_of_time.topology import load_topology
from ssd_jax.multibox.losses import hard_negatives

FOLDER = Path(__file__).parent / "programs"
ASYNC = {
    "xla_enable_async_all_reduce": "true",
    "xla_tpu_enable_async_collective_fusion": "true",
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": "true",
}


@jax.named_scope("mine")
def counted(x):
    return lax.fori_loop(0, 7, lambda _, v: jnp.sin(v) + v.sum(axis=0, keepdims=True), x)


@jax.named_scope("nms")
def unknown(x):
    def body(v):
        return lax.fori_loop(0, 5, lambda _, w: jnp.sin(w) * w.sum(), v)

    return lax.while_loop(lambda v: v.sum() < 1e6, body, x)


def sort(x):
    return jnp.sort(x)


def gather(table, index):
    return table[index]


def gradient(weights, x):
    def loss(weights):
        with jax.named_scope("backbone"):
            y = jnp.tanh(x @ weights)
        with jax.named_scope("loss"):
            return (y**2).sum()

    return jax.grad(loss)(weights)


def sum_beside_products(a, b):
    total = lax.psum(a, "batch")
    for _ in range(4):
        b = jnp.tanh(b @ b)
    return total, b


def main():
    devices = load_topology("v5e:2x2").devices
    mesh = jax.make_mesh((4,), ("batch",), (AxisType.Auto,), devices=devices)
    everywhere, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("batch"))
    one = SingleDeviceSharding(devices[0])

    def array(*shape, dtype=jnp.float32, sharding=one):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def save(name, function, *arguments, options=None):
        text = function.lower(*arguments).compile(options).as_text()
        text = re.sub(r"(?ms)^FileNames.*?(?=^%|^ENTRY)", "", text)  # source lines
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.txt").write_text(re.sub(r" stack_frame_id=\d+", "", text))

    save("counted", jax.jit(counted), array(64, 256))
    save("unknown", jax.jit(unknown), array(64, 256))
    scores = array(32, 1917), array(32, 1917, dtype=jnp.bool_), array(32, dtype=jnp.int32)
    save("mining", jax.jit(jax.vmap(hard_negatives)), *scores)
    save("sort", jax.jit(sort), array(512, 8192))
    save("gather", jax.jit(gather), array(4096, 128), array(30_000, dtype=jnp.int32))
    save(
        "all_reduce", jax.jit(gradient, out_shardings=everywhere),
        array(512, 512, sharding=everywhere), array(1024, 512, sharding=rows),
    )  # fmt: skip
    shard = partial(jax.shard_map, mesh=mesh, in_specs=P("batch"), out_specs=(P(), P("batch")))
    square = array(4096, 1024, sharding=rows)
    save("asynchronous", jax.jit(shard(sum_beside_products)), square, square, options=ASYNC)


if __name__ == "__main__":
    main()
