"""What an extension needs of the environment, looked at before a line of it runs."""

from __future__ import annotations

from collections.abc import Sequence

from hayate.errors import clip


def unmet(requires: Sequence[str]) -> str:
    """Why an extension that needs these packages can't act; empty where it can.

    Cost: nothing for one that needs nothing; else some 40 ms once, for importlib.metadata.
    """
    if not requires:
        return ""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import InvalidRequirement, Requirement

    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return f"it needs {clip(text)}, which is no requirement"
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            return f"it needs {clip(text)}, which is not installed"
        if not requirement.specifier.contains(there, prereleases=True):
            return f"it needs {clip(text)}, and {clip(there)} is installed"
    return ""
