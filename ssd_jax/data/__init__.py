"""Data: readers of image files and annotations, augmentation, and the loader of batches.

`sources` names data sets, `formats` has a file for each annotation format, `recognize` finds out
what a folder is with the help of `readings`, `checks` finds problems before training. Nothing here
knows a model or a run folder.
"""
