"""What launch.py is made of: the standard library only, for nothing else is there before it has run."""
