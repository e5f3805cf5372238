"""The page: its controls and strings are declared here, and rendered without a build step."""

from hayate.server.ui.router import ui_router

__all__ = ["ui_router"]
