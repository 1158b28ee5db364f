"""Commands of `ssd-jax` and of `scripts/`: a file each, with `define_flags` and `main`.

Training, evaluation and prediction are in `main.py` and `predict.py`; `train.py` here chooses what
a folder of photographs is trained with.
"""
