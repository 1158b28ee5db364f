"""A file for each annotation format: it reads files into an `ImageFileSource`, or draws scenes."""
