"""Priors fitted to annotations: a search for sizes and aspect ratios, and a report of their recall.

Annotations are enough: no pixels are read and nothing is trained.
"""
