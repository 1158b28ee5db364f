"""Operations with another form on some backends, selected by `lax.platform_dependent`.

The selection is part of the traced program, so a program that is compiled for another platform
than the one it is traced on gets the right form. Values are equal up to rounding.
"""
