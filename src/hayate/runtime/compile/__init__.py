"""Compiling without pain: in another process, checked against eager, kept on the disk, for every checkpoint at once."""
