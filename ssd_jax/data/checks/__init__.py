"""Checks of a data set before training: what it holds, what is wrong, whether the priors fit."""
