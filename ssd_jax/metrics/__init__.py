"""Scores of detections by the rules of PASCAL VOC and COCO, thresholds, and the mean loss of a set.

On NumPy arrays and dicts.
"""
