"""Commands around the package, run from the project's folder as `python -m scripts.NAME`.

A command is a docstring, `main` and its flags; what it does is in the package.
"""
