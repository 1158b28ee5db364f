"""Data: readers of image files and annotations, augmentation, and the loader of batches.

`sources` names data sets, `formats` has a file for each annotation format, `checks` finds problems
before training. Nothing here knows a model or a run folder.
"""
