import os
import subprocess
import sys
from pathlib import Path

from ssd_jax.runtime import compilation
from ssd_jax.runtime.compilation import cache_dir

ROOT = Path(__file__).resolve().parents[2]
COMPILE = (
    "from ssd_jax.runtime.compilation import configure_jax; configure_jax({arguments}); "
    "import jax; "
    "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0); "
    "{after}; jax.jit(lambda x: x @ x)(jax.numpy.ones(({side}, {side}))); "
    "print(jax.config.jax_compilation_cache_dir)"
)


def compile_in(home, arguments="", side=8, after="pass", warnings="default", **variables):
    """Compile something in a fresh process with this cache home; what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    environment = kept | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home)} | variables
    code = COMPILE.format(arguments=arguments, side=side, after=after)
    result = subprocess.run(
        [sys.executable, "-W", warnings, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_programs_are_kept_in_the_users_cache(tmp_path):
    folder = Path(compile_in(tmp_path))
    assert folder.parent == tmp_path / "ssd_jax" and any(folder.glob("*-cache"))


def test_a_program_that_a_killed_process_left_does_not_stop_the_cache(tmp_path):
    folder = Path(compile_in(tmp_path))
    left, *_ = before = set(folder.glob("*-cache"))
    left.with_name(left.name.replace("-cache", "-atime")).unlink()
    compile_in(tmp_path, side=9, warnings="error")  # JAX warns where it cannot add a program
    after = set(folder.glob("*-cache"))
    assert after - before
    assert len(after) == len(list(folder.glob("*-atime")))


def test_a_folder_that_the_user_chose_stays(tmp_path):
    assert compile_in(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(
        tmp_path / "mine"
    )
    assert not (tmp_path / "ssd_jax").exists()


def test_a_home_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    (tmp_path / "file").write_text("")
    assert compile_in(tmp_path / "file") == "None"


def test_a_user_without_a_home_folder_is_no_reason_to_stop():
    """As in a container whose user number has no entry in passwd and no HOME."""
    code = (
        "import pwd, jax; pwd.getpwuid = {}.__getitem__\n"
        "from ssd_jax.runtime.compilation import configure_jax; configure_jax()\n"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    hidden = ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.stdout == "None\n", result.stderr


def test_determinism_is_a_flag_that_xla_knows(tmp_path):
    compile_in(tmp_path, "deterministic=True")  # an unknown flag would abort the process


def test_another_processor_has_another_folder(tmp_path, monkeypatch):
    folders = set()
    for flags in ("sse avx", "sse avx avx512"):
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags : {flags}\n")
        monkeypatch.setattr(compilation, "_CPU_INFO", tmp_path / "cpuinfo")
        folders.add(cache_dir())
    assert len(folders) == 2


def test_the_cache_stays_below_its_limit(tmp_path):
    """JAX evicts the programs that were not used for longest."""
    folder = Path(compile_in(tmp_path))
    first = {path.name: path.stat().st_size for path in folder.glob("*-cache")}
    limit = 2 * sum(first.values())
    for side in (9, 10, 11):
        set_limit = f"jax.config.update('jax_compilation_cache_max_size', {limit})"
        compile_in(tmp_path, side=side, after=set_limit)
    left = {path.name: path.stat().st_size for path in folder.glob("*-cache")}
    assert 0 < sum(left.values()) <= limit and not first.keys() <= left.keys()
