"""What launch.py needs only sometimes: each file is imported when its part is asked for, the standard library only."""
