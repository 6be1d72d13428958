"""The commands of `deeper`, one module a command or a group of them."""
