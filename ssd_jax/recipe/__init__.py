"""What a folder of photographs is trained with, where nobody wrote a config: sets, weights to start
from, priors, length, and the config file that says so. Nothing is trained here.
"""
