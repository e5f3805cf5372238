"""What others add: found without being imported, imported when it is needed, timed, and left out when it fails.

`docs/extensions.md` says how one is written, `hooks.py` what one may add.
"""
