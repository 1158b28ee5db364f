"""Single Shot MultiBox Detector (Liu et al., ECCV 2016) in JAX and Flax."""

__version__ = "0.1.0"
