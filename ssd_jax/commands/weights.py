"""List the trained weights that have names, and what is downloaded of them.

    ssd-jax weights
    ssd-jax weights --download=NAME
    python -m scripts.weights (the same flags)

A name is taken by `ssd-jax train PHOTOS --weights=NAME`, `ssd-jax predict --weights=NAME`,
`ssd-jax import --source=NAME`, `--config.init.source=NAME` and `ssd_jax.load(NAME)`. Each downloads
the file when it is first asked for; `--download` does so beforehand, for machines without a
network.
"""

from absl import flags


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("download", "", "Download the weights of this name.")


def main() -> None:
    """The command."""
    # Imported here, so that --help does not wait for JAX.
    from ssd_jax.weights import named

    if name := flags.FLAGS.download:
        file = named.fetch(name)
        print(f"{name}: {file.path}\nSHA-256 {file.origin['sha256']}")
        return
    print("\n".join(_table()))


def _table() -> list[str]:
    from ssd_jax.runtime.download import read_record
    from ssd_jax.runtime.files import user_cache_folder
    from ssd_jax.weights import named

    lines = [f"{'name':43s} {'what':9s} {'trained on':11s} {'downloaded':11s} license"]
    for name, weights in named.NAMES.items():
        record = read_record(named.cached_path(name))
        size = f"{record['size'] / 1e6:.1f} MB" if record else "-"
        lines.append(
            f"{name:43s} {weights.what:9s} {weights.trained_on:11s} {size:11s} {weights.license}"
        )
        if not weights.sha256 and not weights.member_sha256:
            lines.append(f"{'':43s} no sum is known before the first download")
    return [*lines, "", f"Files: {user_cache_folder() / 'weights'}"]
