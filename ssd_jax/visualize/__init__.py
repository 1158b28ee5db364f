"""Pictures of boxes, priors, matches and batches, and one palette for all of them.

Functions take arrays, no model, data set or run. Images are uint8 [H, W, 3] RGB.
"""
