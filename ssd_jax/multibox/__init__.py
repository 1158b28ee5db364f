"""The paper: default boxes (priors), matching, the multibox loss, decoding and suppression.

Pure functions of arrays, written for one image. What needs a network, a file or a device is
elsewhere: `models`, `data`, `runtime`.
"""
