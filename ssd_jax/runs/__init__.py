"""A run on disk: its folder, checkpoints and their manifests, metrics, results, and loading it.

`state_files` is the only file that imports Orbax. How a run is trained is in `training`.
"""
