"""What the compiler of an accelerator says of the real program, where no accelerator is attached.

`topology` names the chips, `program` is what runs on them, `compile` compiles it; `hlo` reads the
compiled text, `cost` adds up its estimates; `report` and `page` are for people. All numbers are
estimates of the compiler: nothing here runs on a device, and nothing here is a measurement.
"""
