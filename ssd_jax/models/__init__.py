"""Networks: backbones, heads, and `ssd`, which puts both together.

A backbone is a file with a Flax module `Backbone` that maps images to feature maps, fine to
coarse; `config.model.name` is the name of the file. Forms of an operation that only one backend
needs are in `platforms`.
"""
