"""Where weights come from: random numbers, runs, and weight files of other projects.

A file for each format reads tensors into our names and layout (`ImportedWeights`); `remap` fits
them to a model, `initialize` starts a run from them, `import_run` makes a run of them.
"""
