"""Configs: the rules of every field, saving and comparing experiments, and older versions.

A config is a locked `ml_collections.ConfigDict` that `get_config()` of a file in the top-level
folder `configs/` makes; defaults are in `configs/ssd300_vgg16_voc.py`. Nothing here starts JAX.
"""
