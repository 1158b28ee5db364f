"""Training: `train_and_evaluate(config, folder)` prepares a run; `trainer.py` has the loop."""

import signal
import threading
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from ml_collections import ConfigDict

from ssd_jax.config.validation import validate
from ssd_jax.data import sources
from ssd_jax.data.checks.dataset import CHECK_FILE, check_sets, read_check, write_check
from ssd_jax.data.scan import Scan
from ssd_jax.detector import Detector, build_checked_detector
from ssd_jax.errors import Interrupted
from ssd_jax.evaluate import Evaluator
from ssd_jax.runs import checkpoint
from ssd_jax.runs.folder import (
    RunInfo,
    check_run_folder,
    read_saved_classes,
    remove_failed_start,
    run_metadata,
    with_saved_orientation,
    write_run_files,
)
from ssd_jax.runs.lock import lock_run_folder
from ssd_jax.runs.metrics import MetricsFile, StepMeans
from ssd_jax.runs.summary import format_summary
from ssd_jax.runtime import devices, distributed
from ssd_jax.runtime.profiler import StepTrace
from ssd_jax.runtime.progress import log_line
from ssd_jax.runtime.signals import StopSignals
from ssd_jax.train_step import TrainState, abstract_state
from ssd_jax.trainer import STEP_MEANS, Trainer
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
        check_file = folder / CHECK_FILE
        last_check = read_check(check_file)
        scan = Scan(last_check.get("images"), orientation=config.data.orientation)
        train_set = _open_training_set(config, folder, scan)
        test_set = sources.make_source(config.data.test, config, train_set.classes, scan)
        sets = {"train": train_set, "test": test_set}
        runner = devices.get_runner(config.parallel)
        detector = build_checked_detector(
            config, train_set.classes, test_set.classes, runner.axis_name
        )
        distributed.check_processes_agree({name: each.fingerprint for name, each in sets.items()})
        if is_main and (check := check_sets(sets, scan, last_check, detector.priors.boxes, config)):
            write_check(check_file, check)
        metadata |= {
            "classes": train_set.classes,
            "data": train_set.fingerprint,
            "test_data": test_set.fingerprint,
        }
        with _open_checkpoints(folder, metadata) as checkpoints:
            run = RunInfo(config, train_set.classes, train_set.fingerprint, detector.priors.boxes)
            if is_main:
                check_run_folder(folder, run, checkpoints.newest_manifest())
            start = _restore_or_initialize(detector, checkpoints, train_set.classes)
            state, is_detector = start.state, start.is_detector
            if is_detector:
                detector = _settings_for_known_classes(detector)
            if is_main:
                # For a resumed run, which does not read its first weights again.
                metadata |= {"starts_as_detector": is_detector, "weights": start.origin}
                checkpoints.add_metadata(metadata)
                write_run_files(folder, run, metadata)
                log_line(format_summary(folder, detector, state, train_set, test_set))
            metrics = MetricsFile(folder, int(state.step)) if is_main else None
            means = _saved_means(checkpoints, int(state.step)) if is_main else None
            evaluator = Evaluator(detector, test_set, runner)
            trainer = Trainer(
                folder, runner, detector, state, train_set, evaluator, checkpoints, metrics,
                is_detector, means,
            )  # fmt: skip
            trace = StepTrace(folder / "profile", profiled if is_main else range(0))
            with closing(trainer), closing(trace):
                return trainer.run_loop(signals, trace)


def _open_training_set(config: ConfigDict, folder: Path, scan: Scan) -> sources.Source:
    """The training set; of a run in `folder` with the run's classes, where it had more.

    Older versions took names that the files do not use for classes, as COCO's of a group.
    """
    source = sources.make_source(config.data.train, config, config.data.classes, scan)
    saved = read_saved_classes(folder)
    if config.data.classes or not set(source.classes) < set(saved):
        return source
    return sources.make_source(config.data.train, config, saved, scan)


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


def _saved_means(checkpoints: checkpoint.Checkpoints, step: int) -> StepMeans:
    """Means of the steps since the last line of the metrics, as the checkpoint of `step` has them.

    Checkpoints of version 0.1 have none: the first line then tells of the steps since the resume.
    """
    content = checkpoints.newest_manifest() or {}
    return StepMeans(content.get(STEP_MEANS) if content.get("step") == step else None)


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
