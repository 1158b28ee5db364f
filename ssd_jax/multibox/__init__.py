"""The method of the paper: default boxes (priors), matching, the multibox loss, suppression.

Pure functions of arrays and of the `priors` block of a config, for one image; the caller vmaps.
What needs a network, a file or a device is elsewhere: `models`, `data`, `runtime`.
"""
