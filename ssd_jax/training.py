"""Training: `train_and_evaluate(config, folder)` prepares a run; `trainer.py` has the loop."""

import signal
import threading
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ssd_jax.config.validation import validate
from ssd_jax.data.checks.dataset import CHECK_FILE, check_sets, read_check, write_check
from ssd_jax.data.sets import Sets, make_scan, open_sets
from ssd_jax.detector import Detector, build_checked_detector
from ssd_jax.errors import Interrupted
from ssd_jax.runs import checkpoint
from ssd_jax.runs.folder import (
    RunInfo,
    check_run_folder,
    read_kept_sets,
    read_saved_classes,
    remove_failed_start,
    run_metadata,
    with_saved_orientation,
    write_run_files,
)
from ssd_jax.runs.lock import lock_run_folder
from ssd_jax.runs.metrics import MetricsFile
from ssd_jax.runs.summary import format_summary
from ssd_jax.runtime import devices, distributed
from ssd_jax.runtime.profiler import StepTrace
from ssd_jax.runtime.progress import log_line
from ssd_jax.runtime.signals import StopSignals
from ssd_jax.train_step import TrainState, abstract_state
from ssd_jax.trainer import NOTES, Trainer
from ssd_jax.weights.initialize import InitialState, check_source, initial_state

_STOPPING = "stopping after this step; a second signal ends at once, and loses what is not saved"


def train_and_evaluate(
    config: ConfigDict, folder: Path, profiled: range = range(0)
) -> dict[str, float]:
    """Train the experiment in `folder`, from its latest checkpoint if it has one.

    The steps of `profiled`, numbered from 1, are traced into `folder`/profile. Returns the last
    scores. Raises an `SsdError` for what a user can act on; `Interrupted` after SIGTERM or SIGINT,
    when everything is saved.
    """
    validate(config)
    try:
        scores = _train(config, folder, profiled)
    except Interrupted:
        distributed.barrier("saved")  # an early exit would abort the process that writes
        raise
    distributed.barrier("saved")
    return scores


def _train(config: ConfigDict, folder: Path, profiled: range) -> dict[str, float]:
    config = with_saved_orientation(config, folder)
    if not (folder / "checkpoints").exists():
        check_source(config)  # before minutes of reading data; a resumed run needs no source
    metadata = run_metadata(config)
    versions = {k: v for k, v in metadata["versions"].items() if k != "command"}
    device_text = devices.describe_devices(config.batch_size)
    distributed.check_processes_agree(
        {"config": metadata["config"], "versions": versions, "devices": device_text}
    )
    is_main = distributed.is_main_process()
    with remove_failed_start(folder), lock_run_folder(folder), _stop_signals() as signals:
        runner = devices.get_runner(config.parallel)
        sets, detector = _open_checked_sets(config, folder, runner)
        classes = sets.train.classes
        metadata |= {"classes": classes, "data": sets.train.fingerprint} | {
            f"{name}_data": source.fingerprint
            for name, source in sets.by_name.items()
            if name != "train"
        }
        with _open_checkpoints(folder, metadata) as checkpoints:
            run = RunInfo(
                config, classes, sets.train.fingerprint, detector.priors.boxes, sets=sets.kept
            )
            if is_main:
                check_run_folder(folder, run, checkpoints.newest_manifest())
            start = _restore_or_initialize(detector, checkpoints, classes)
            state, is_detector = start.state, start.is_detector
            if is_detector:
                detector = _settings_for_known_classes(detector)
            if is_main:
                # For a resumed run, which does not read its first weights again.
                metadata |= {"starts_as_detector": is_detector, "weights": start.origin}
                checkpoints.add_metadata(metadata)
                write_run_files(folder, run, metadata)
                log_line(format_summary(folder, detector, state, sets))
            metrics = MetricsFile(folder, int(state.step)) if is_main else None
            trainer = Trainer(
                folder, runner, detector, state, sets, checkpoints, metrics, is_detector,
                _saved_notes(checkpoints, int(state.step)),
            )  # fmt: skip
            trace = StepTrace(folder / "profile", profiled if is_main else range(0))
            with closing(trainer), closing(trace):
                return trainer.run_loop(signals, trace)


def _open_checked_sets(
    config: ConfigDict, folder: Path, runner: devices.Runner
) -> tuple[Sets, Detector]:
    """The sets, the same in all processes, and the detector of their classes; both are checked."""
    check_file, is_main = folder / CHECK_FILE, distributed.is_main_process()
    last_check = read_check(check_file)
    scan = make_scan(config, last_check.get("images"))
    kept = distributed.allgather_json(read_kept_sets(folder) if is_main else {})[0]
    sets = open_sets(config, scan, kept, read_saved_classes(folder))
    others = {name: source.classes for name, source in sets.by_name.items() if name != "train"}
    detector = build_checked_detector(config, sets.train.classes, others, runner.axis_name)
    distributed.check_processes_agree(
        {name: source.fingerprint for name, source in sets.by_name.items()}
    )
    if is_main:
        for note in sets.notes:
            log_line(note)
        priors = detector.priors.boxes
        if check := check_sets(sets.by_name, sets.errors, scan, last_check, priors, config):
            write_check(check_file, check)
    return sets, detector


def _open_checkpoints(folder: Path, metadata: dict) -> AbstractContextManager:
    """The run's checkpoints in the main process, None in the others."""
    if distributed.is_main_process():
        return checkpoint.Checkpoints(folder / "checkpoints", metadata=metadata)
    return nullcontext()


def _restore_or_initialize(
    detector: Detector, checkpoints: checkpoint.Checkpoints | None, classes: tuple[str, ...]
) -> InitialState:
    """The main process's latest checkpoint or, without one, the state before the first step.

    What the run started from is told by the checkpoint too.
    """
    like, start = abstract_state(detector), (False, {})

    def make() -> TrainState:
        nonlocal start
        if checkpoints.latest_step() is None:
            state, *start = initial_state(detector, classes)
            return state
        manifest = checkpoints.newest_manifest() or {}
        start = manifest.get("starts_as_detector", False), manifest.get("weights", {})
        return checkpoints.restore("latest", like)

    state = distributed.broadcast_from_main(make, like)
    return InitialState(state, *distributed.allgather_json(list(start))[0])


def _saved_notes(checkpoints: checkpoint.Checkpoints | None, step: int) -> dict[str, Any]:
    """The trainer's notes in the checkpoint of `step`, in all processes; {} where it has none.

    Checkpoints of version 0.1 have none: the first line of the metrics then tells of the steps
    since the resume.
    """
    content = (checkpoints.newest_manifest() or {}) if checkpoints else {}
    notes = content if content.get("step") == step else {}
    kept = {name: notes[name] for name in NOTES if name in notes}
    return distributed.allgather_json(kept)[0]


def _settings_for_known_classes(detector: Detector) -> Detector:
    """With the settings of a run that starts from a detector of all its classes.

    Its learning rate is multiplied by `init.lr_multiplier`, and averages begin at the source.
    """
    config = detector.config.copy_and_resolve_references()
    multiplier = config.init.lr_multiplier
    config.optim.learning_rate *= multiplier
    config.optim.ema_warmup = False
    if multiplier != 1 and distributed.is_main_process():
        log_line(
            f"the source detects all classes: learning rate {config.optim.learning_rate:g}, "
            f"{multiplier:g} times config.optim.learning_rate"
        )
    return detector._replace(config=config)


def _stop_signals() -> StopSignals:
    """SIGTERM and SIGINT; a second one ends the program at once.

    With several processes the JAX runtime handles SIGTERM and tells all processes; SIGINT is
    turned into SIGTERM. Python hears of signals in the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return StopSignals(())
    if distributed.is_multiprocess():
        return StopSignals((signal.SIGINT,), lambda: signal.raise_signal(signal.SIGTERM))
    return StopSignals((signal.SIGINT, signal.SIGTERM), notice=_STOPPING)
