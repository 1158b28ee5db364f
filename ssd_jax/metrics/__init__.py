"""Scores of detections by the rules of PASCAL VOC and COCO, on NumPy arrays and dicts."""
