"""The machine: devices and processes, compilation, progress, signals, profiler, command line.

`devices` and `distributed` are the only files that ask JAX for devices and processes.
Nothing here knows a model, a data set or a run folder.
"""
