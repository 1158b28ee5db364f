"""Pictures of what training does with one image: priors, matches, negatives, augmentation.

    python -m scripts.visualize --config=configs/NAME.py --image=INDEX|NAME --output=FOLDER \
        [--split=train|val|test] [--workdir=RUN]

Negatives are those that the loss selects by the network of --workdir, or without it by a network
with random weights.
"""

from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from scripts.training_scene import (
    Scene,
    augmented_batch,
    find_image,
    make_scene,
    match_boxes,
    positives_and_negatives,
)
from ssd_jax.config.validation import validate
from ssd_jax.data.sets import open_set
from ssd_jax.detector import Variables, build_detector, init_variables
from ssd_jax.runs.folder import check_same_detector, read_kept_sets, read_run_info
from ssd_jax.runs.load import restore_run
from ssd_jax.runtime import command_line
from ssd_jax.runtime.compilation import configure_jax
from ssd_jax.visualize.batches import draw_batch
from ssd_jax.visualize.images import save_image
from ssd_jax.visualize.matches import draw_matches
from ssd_jax.visualize.negatives import draw_negatives
from ssd_jax.visualize.priors import draw_priors


def draw_scene(scene: Scene, variables: Variables, network: str) -> dict[str, np.ndarray]:
    """Pictures uint8 [h, w, 3] by name; `network` describes the variables."""
    priors, classes = scene.detector.priors, scene.source.classes
    positives, negatives = positives_and_negatives(scene, variables)
    ground_truth, batch = scene.boxes[scene.labels > 0], augmented_batch(scene)
    return {
        "priors": draw_priors(scene.picture, priors, scene.detector.config.image_size),
        "matches": draw_matches(
            scene.picture, scene.boxes, scene.labels, priors.boxes, match_boxes(scene), classes
        ),
        "negatives": draw_negatives(
            scene.picture, ground_truth, priors.boxes, positives, negatives, network
        ),
        "augmented": draw_batch(batch["image"], batch["boxes"], batch["labels"], classes),
    }


def visualize(config: ConfigDict, split: str, image: str, output: Path, run: Path | None) -> None:
    """Write the pictures of one image of a set into the folder `output`."""
    if run:
        saved = read_run_info(run)
        check_same_detector(run, saved.config, config)
        detector, variables, classes, step, _ = restore_run(run, saved)
        detector, network = detector._replace(config=config), f"network of {run.name}, step {step}"
        source = open_set(config, split, classes, kept=read_kept_sets(run))
    else:
        source = open_set(config, split)
        detector = build_detector(config, len(source.classes) + 1)
        variables, network = init_variables(detector), "network with random weights"
    scene = make_scene(detector, source, find_image(source, image))
    pictures = draw_scene(scene, variables, network)
    for name, picture in pictures.items():
        save_image(output / f"{name}.png", picture)
    print(f"{source.name(scene.index)}: {', '.join(pictures)} as .png in {output}")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    validate(given.config)
    configure_jax()
    run = Path(given.workdir) if given.workdir else None
    visualize(given.config, given.split, given.image, Path(given.output), run)


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "The experiment.", lock_config=True)
    flags.DEFINE_enum("split", "train", ["train", "val", "test"], "Which of its data sets.")
    flags.DEFINE_string("image", "0", "Number or name of the image.")
    flags.DEFINE_string("output", None, "Folder for the pictures.", required=True)
    flags.DEFINE_string("workdir", None, "Run whose network selects the negatives.")
    flags.mark_flag_as_required("config")
    command_line.run(main)
