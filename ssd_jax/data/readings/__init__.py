"""What a folder may be read as: a file for each kind of layout, used by `data.recognize`."""
