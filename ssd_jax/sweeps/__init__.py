"""Sweeps: many runs of one config file. Their plan, launchers, states, and a report over all.

A run is trained by `python -m ssd_jax.main` in a process of its own; nothing here trains.
"""
