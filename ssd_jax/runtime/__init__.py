"""The machine: devices and processes, compilation, progress, signals, profiler, command line.

`devices` and `distributed` are the only files that know how many devices and processes there are.
Nothing here knows a model, a data set or a run folder.
"""
