#!/bin/sh
# Starts launch.py with whichever Python fits; PYTHON names another one. Everything after the name is passed on.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
for python in "$PYTHON" python3.12 python3.13 python3.11 python3.14 python3 python; do
    if [ -n "$python" ] && "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
        exec "$python" "$here/launch.py" "$@"
    fi
done
echo "error: no Python 3.11 to 3.14 was found (install one, or name it: PYTHON=/path/to/python3.12 ./hayate.sh)" >&2
exit 1
