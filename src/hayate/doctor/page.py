"""docs/doctor.md: every check, and what can be done and undone."""

from __future__ import annotations

import sys

from hayate.doctor.catalogue import CHECKS
from hayate.doctor.finding import Certainty, Job


def doctor_page() -> str:
    """docs/doctor.md."""
    rows = "\n".join(f"| {check.name} | {check.looks_at} |" for check in CHECKS)
    jobs = "\n".join(f"| {job.value} | {_UNDOING[job]} |" for job in Job)
    sure = ", ".join(f"*{each.value}*" for each in Certainty)
    return f"""# The doctor

Written by `scripts/docs` from `src/hayate/doctor/`.

`hayate doctor` looks the machine over and says what to change: what was found, why it matters, what it would gain and
how sure that is ({sure}), and the fix. Nothing is said of what is fine, and nothing is changed or downloaded. Beside an
NVIDIA card torch is asked, once and in another process, for what it was built; else it stays on the disk. The exit code
is 1 for something serious, else 0.

| Option | What it does |
|---|---|
| `--fix` | does what can be done here; `--only CHECK` for one of them. Extensions are disabled only with `--only` |
| `--undo` | takes it back, the newest first; what was changed since stays; `--only CHECK` for one of them |
| `--measure` | also fills an NVIDIA card for a moment and times copies, which shows a fallback to main memory |
| `--facts FILE` | writes down what is known of this machine; nothing in it names its owner |
| `--from FILE` | judges such a sheet instead of this machine |
| `--json`, `--all` | everything as one JSON object; the checks that found nothing too |

The page's tab Doctor shows the same, with a button where `--fix` can help and one that undoes it. Nothing is looked at
before that tab is opened. Commands there and here are written as they are called in this installation: by launch.py
where it made the environment.

| Route | What it does |
|---|---|
| `GET /v1/doctor` | the findings as `--json` has them, and what was fixed; the machine is looked at the first time |
| `POST /v1/doctor/look` | looks anew |
| `POST /v1/doctor/fixes` | {{"check": NAME}}: does what that finding offers; 202 if that takes longer than 4 s |
| `POST /v1/doctor/undo` | {{"checks": [NAME, …]}}: takes their fixes back; without names all |
| `GET /v1/doctor/facts` | the sheet that `--facts` writes |

One fix at a time: a second one is 409 meanwhile. A server that others can reach without being asked who they are
refuses both, with 403. Settings that a fix writes act from the next start of Hayate, extensions from the next job on,
and models are in the lists at once.

## Checks

| Check | What it looks at, and when it speaks up |
|---|---|
{rows}

## What --fix does, and how it is undone

| Fix | Undone by |
|---|---|
{jobs}

What is done is written to `doctor/undo.json` in `data_dir` before it begins. What `--fix` doesn't do is given as a
command: drivers, the registry and power limits are an administrator's, and no model is deleted or made smaller unasked.
"""


_UNDOING = {
    Job.CONVERT_PICKLE: "the pickle, kept beside it as `NAME.aside`, gets its name back; the conversion goes",
    Job.WRITE_SETTING: "the settings file's line as it was, or without the line",
    Job.SET_ASIDE: "the file moves back from `doctor/aside` in `data_dir`",
    Job.MAKE_FOLDER: "the folder goes if it is empty",
    Job.REMOVE_PACKAGE: "pip installs the same version again, which needs the network",
    Job.SWITCH_OFF: "the extension is enabled again",
}

if __name__ == "__main__":
    sys.stdout.write(doctor_page())
