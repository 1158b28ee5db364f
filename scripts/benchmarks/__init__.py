"""The measurements of `python -m scripts.benchmark`: topics, both sides of them, and the report."""
