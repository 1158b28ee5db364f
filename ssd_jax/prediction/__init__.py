"""What `predict` reads and writes: inputs, their pictures, names of outputs, drawn pictures."""
