"""The commands as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest
from commands import MICRO, ROOT, call, command

from ssd_jax.data.formats.shapes import CLASSES, Shapes


def test_train_evaluate_predict_and_say_done(tmp_path):
    run = tmp_path / "run"
    trained = call("main", *MICRO, f"--workdir={run}")
    assert trained.returncode == 0, trained.stderr
    assert "mAP@.5" in trained.stdout and str(run / "pictures") in trained.stdout
    assert "6/6" in trained.stderr
    again = call("main", *MICRO, f"--workdir={run}")
    assert again.returncode == 0 and "already done" in again.stderr
    evaluated = call("main", *MICRO, f"--workdir={run}", "--mode=eval", "--checkpoint=latest")
    assert evaluated.returncode == 0, evaluated.stderr
    assert trained.stdout.startswith(f"{evaluated.stdout.splitlines()[-1]}; ")

    picture = run / "pictures" / "training_input.png"
    found = call("predict", f"--workdir={run}", f"--input={picture}", f"--output={tmp_path / 'o'}",
                 "--score_threshold=0")  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "o" / "training_input.png").exists()
    results = json.loads((tmp_path / "o" / "detections.json").read_text())
    assert {"image_id", "category_id", "bbox", "score", "file_name"} <= results[0].keys()

    refused = call("main", *MICRO, f"--workdir={run}", "--config.seed=3")
    assert refused.returncode == 2 and "config.seed: 0 -> 3" in refused.stderr


def test_sigterm_saves_and_asks_to_be_started_again(tmp_path):
    arguments = [*MICRO, f"--workdir={tmp_path}", "--config.steps=100000", "--config.log_every=1"]
    process = subprocess.Popen(
        command("main", *arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.read_text().count("\n") > 3:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 42, error
    stopped = int(error.split("stopped at step ")[1].split(",")[0])
    assert str(stopped) in os.listdir(tmp_path / "checkpoints" / "latest")
    again = call("main", *arguments, f"--config.steps={stopped + 2}")
    assert again.returncode == 0, again.stderr
    assert f"resumed at step {stopped}" in again.stderr


def test_own_photographs_in_three_lines(tmp_path):
    """A folder with a list of neither kind, trained on and predicted on."""
    photographs, run = tmp_path / "photographs", tmp_path / "run"
    for name in ("JPEGImages", "Annotations"):
        (photographs / name).mkdir(parents=True)
    for number in range(10):
        scene = Shapes("train", 10, (64, 80))[number]
        image = cv2.cvtColor(scene["image"], cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(photographs / "JPEGImages" / f"{number}.jpg"), image)
        (photographs / "Annotations" / f"{number}.xml").write_text(voc_xml(scene))
    before = digest(photographs)
    shrunk = [each for each in MICRO[1:] if "data" not in each]
    trained = call("main", f"--config=configs/voc_folder.py:{photographs}", *shrunk,
                   "--config.priors.sizes=(8, 16, 32)", f"--workdir={run}")  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "trainval: 8 images" in trained.stderr and "test: 2 images" in trained.stderr
    found = call("predict", f"--workdir={run}", f"--input={photographs / 'JPEGImages'}",
                 f"--output={tmp_path / 'found'}")  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert len(list((tmp_path / "found").glob("*.jpg"))) == 10
    assert digest(photographs) == before


def voc_xml(scene):
    height, width = scene["size"]
    objects = "".join(
        f"<object><name>{CLASSES[label - 1]}</name><bndbox><xmin>{x0 * width + 1:.0f}</xmin>"
        f"<ymin>{y0 * height + 1:.0f}</ymin><xmax>{x1 * width:.0f}</xmax>"
        f"<ymax>{y1 * height:.0f}</ymax></bndbox></object>"
        for label, (x0, y0, x1, y1) in zip(scene["labels"], scene["boxes"])
    )
    return f"<annotation>{objects}</annotation>"


def digest(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--config=NAME is required, as --config=quickstart"),
        (["--config=configs/nothing.py"], 2, "no such file configs/nothing.py\n"),
        (["--config=configs/quickstart.py", "--config.optim.learning_rat=1"], 2, "did you mean --"),
        (["--config=configs/quickstart.py", "--config.batch_size=many"], 2, "batch_size"),
        (["--config=configs/quickstart.py", "--mode=fly"], 2, "fly"),
        (["--config=configs/quickstart.py", "extra"], 2, "extra"),
        (["--config=configs/quickstart.py", "--profile_steps=9:8"], 2, "--profile_steps=11:15"),
        (["--config=configs/quickstart.py", "--profile_steps=1:1001"], 2, "config.steps=1000"),
        (["--config=configs/quickstart.py", "--profile_steps=soon"], 2, "--profile_steps=11:15"),
        (["--config=LICENSE"], 2, "LICENSE"),
        (["--config=configs/quickstart.py", "--config.matching.matcher=x"], 2, "matcher='x'"),
        (["--config=configs/voc_folder.py:nowhere"], 3, "nowhere"),
        (["--config=configs/quickstart.py", "--mode=eval"], 4, "not a run"),
        (["--config=configs/quickstart.py", "--workdir=LICENSE/run"], 6, "LICENSE/run"),
    ],
)  # fmt: skip
def test_mistakes_end_with_their_exit_code_and_a_short_message(tmp_path, arguments, code, message):
    if not any("--workdir" in argument for argument in arguments):
        arguments = [*arguments, f"--workdir={tmp_path}"]
    result = call("main", *arguments)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("\n") <= 6


def test_tensorflow_is_never_imported():
    code = (
        "import pkgutil, importlib, sys, ssd_jax\n"
        "for found in pkgutil.walk_packages(ssd_jax.__path__, 'ssd_jax.'):\n"
        "    importlib.import_module(found.name)\n"
        "bad = {'tensorflow'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_help_is_quick_to_say_what_the_flags_are():
    result = call("predict", "--help")
    assert result.returncode == 0
    assert "--input" in result.stdout and "score_threshold" in result.stdout
