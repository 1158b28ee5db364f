"""What must be settled before JAX compiles anything: where programs are kept, and determinism."""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

import jax

_MOST_BYTES = 2**30
_CPU_INFO = Path("/proc/cpuinfo")
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def prepare(deterministic: bool = False) -> None:
    """Keep compiled programs in the user's cache folder, and make a GPU deterministic on request.

    A cache folder that is set already (JAX_COMPILATION_CACHE_DIR) stays; without a place to write
    nothing is kept, JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC}".strip()
    if jax.config.jax_compilation_cache_dir is None:
        folder = cache_folder()
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            prune(folder, _MOST_BYTES)
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/ssd_jax/xla-…, one for each kind of processor.

    A program that was compiled for another processor, on a home folder that machines share, may
    use instructions that this one lacks.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
    return Path(home) / "ssd_jax" / f"xla-{kind}"


def prune(folder: Path, most_bytes: int) -> None:
    """Delete the files of `folder` that were not used for longest, until it is small enough."""
    files = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process may prune at the same time
            status = path.stat()
            files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    excess = sum(size for _, size, _ in files) - most_bytes
    for _, size, path in sorted(files):
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size
