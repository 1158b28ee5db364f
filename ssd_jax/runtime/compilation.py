"""Settings of JAX before anything is compiled: the compilation cache and determinism."""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

import jax

from ssd_jax.runtime.files import user_cache_folder

_MAX_CACHE_BYTES = 2**30
_CPU_INFO = Path("/proc/cpuinfo")
_DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"


def configure_jax(deterministic: bool = False) -> None:
    """Keep compiled programs in the user's cache folder; `deterministic` GPU operations on request.

    A cache folder that is already set (JAX_COMPILATION_CACHE_DIR) is used as it is. Nothing is
    cached where no folder can be written, as for a user without a home folder, or with
    JAX_ENABLE_COMPILATION_CACHE=false.
    """
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC_FLAG}".strip()
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        with suppress(OSError, RuntimeError):
            folder = cache_dir()
            folder.mkdir(parents=True, exist_ok=True)
            _delete_unlimited_programs(folder)
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_compilation_cache_max_size", _MAX_CACHE_BYTES)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cache_dir() -> Path:
    """A folder of `user_cache_folder`, one for each kind of processor.

    A program that was compiled for another processor, on a home folder that machines share, may
    use instructions that this one lacks. Raises RuntimeError for a user without a home folder.
    """
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
    return user_cache_folder() / f"xla-{kind}"


def _delete_unlimited_programs(folder: Path) -> None:
    """Delete programs without the file that says when they were last used.

    A process that was killed leaves one, and so does a cache without a limit, as of version 0.1.
    While there is one, JAX adds no program to a cache with a limit.
    """
    for program in folder.glob("*-cache"):
        if not program.with_name(f"{program.name.removesuffix('-cache')}-atime").exists():
            program.unlink(missing_ok=True)
