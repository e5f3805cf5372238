"""A command whose first word may be a sub-command, or else belongs to its main one."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

MAIN = "run"


class WithMain(TyperGroup):
    """`hayate bench quick` means `hayate bench run quick`, and `hayate bench history` itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_for_group = bool(args) and args[0] in (*self.commands, "--help")
        return super().parse_args(ctx, args if is_for_group else [MAIN, *args])
