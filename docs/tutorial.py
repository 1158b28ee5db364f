# ruff: noqa: B018, E402, E501
# Source of tutorial.ipynb: `python -m scripts.make_tutorial` runs it and writes the notebook.
# %% [markdown]
# # Train a detector, look at it, use it
#
# Minutes on a CPU, and no data to download: the scenes are drawn. At the end are the lines for your own
# photographs. Install: `pip install .` in the checkout, and start this notebook with that environment.
# %%
import json
from pathlib import Path

import numpy as np
from PIL import Image

import ssd_jax
from ssd_jax.config.packaged import load_config
from ssd_jax.data.formats.shapes import Shapes

# %% [markdown]
# ## Train
#
# A config is an experiment. `quickstart` is a small network at 160 pixels, on scenes with boxes, disks, rings and
# triangles. Every field can be changed; [config.md](config.md) lists them. Training writes a *run folder*: config,
# checkpoints, scores and pictures. The same call resumes a run that was stopped.
# %%
config = load_config("quickstart")
config.steps = 600
config.eval_every = 300
scores = ssd_jax.train(config, "runs/tutorial")
{name: round(score, 3) for name, score in scores.items() if name.startswith("voc/mAP")}
# %% [markdown]
# Look at what the network is trained on first. Here the boxes must lie on the objects:
# %%
Image.open("runs/tutorial/pictures/training_input.png")
# %% [markdown]
# `metrics.jsonl` has a line for every 25 steps, with losses, learning rate and speed. TensorBoard reads
# `runs/tutorial/tensorboard`.
# %%
lines = [json.loads(line) for line in Path("runs/tutorial/metrics.jsonl").read_text().splitlines()]
losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
for step in list(losses)[:: max(1, len(losses) // 6)]:
    print(f"step {step:4d}  loss {losses[step]:.2f}")
# %% [markdown]
# ## Detect
#
# `load` opens a run folder. The detector takes a path, an image of Pillow, an array, or a list of them, of any size.
# %%
model = ssd_jax.load("runs/tutorial")
scenes = Shapes("val", 8, (160, 160))  # not in the training set
found = model(scenes[6]["image"])
found
# %% [markdown]
# The result holds NumPy arrays, the surest detection first. Boxes are `x_min, y_min, x_max, y_max` in pixels.
# %%
for box, score, label, name in found:
    print(f"{name:10s} {score:.2f} {np.round(box).astype(int)} label {label}")
# %% [markdown]
# By default detections from a score of 0.5 on are returned. A lower threshold finds more, and more that is wrong:
# %%
unsure = model(scenes[3]["image"], score_threshold=0.2)
print(f"{len(model(scenes[3]['image']))} from 0.5 on, {len(unsure)} from 0.2 on")
unsure
# %% [markdown]
# Several images at once are predicted in batches. `save` writes the picture, `to_coco` gives what COCO's tools read:
# %%
results = model([scenes[i]["image"] for i in range(8)])
results[5].save("found/scene.png")
results[5].to_coco()[:1]
# %% [markdown]
# ## Your photographs
#
# Fine-tune a COCO detector. `PHOTOS` is a folder of PASCAL VOC, COCO, YOLO or CSV: see
# [own_photographs.md](own_photographs.md). The detector, 4 MB, is downloaded once:
#
# ```bash
# ssd-jax train PHOTOS --workdir=runs/mine --weights=tflite:coco_ssd_mobilenet_v1
# ssd-jax predict --workdir=runs/mine --input=PICTURES
# ```
#
# Or use it as it is: `ssd_jax.load("tflite:coco_ssd_mobilenet_v1")("photo.jpg")`. All names: `ssd-jax weights`, and
# [weights.md](weights.md).
#
# ## One change at a time
#
# Every field is a flag, and a file with a list of them is a sweep ([sweeps.md](sweeps.md)):
#
# ```bash
# ssd-jax train --config=quickstart --config.priors.formula.first=0.15 --workdir=runs/larger_priors
# ssd-jax sweep --config=sweeps/prior_scales --workdir=runs/scales --launcher=local
# ```
