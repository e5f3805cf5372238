"""What this machine should change, and what it would gain: facts, checks of them, and fixes that can be undone."""
