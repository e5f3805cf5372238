"""What several files of tests share: a browser before the tool tabs."""

from tests.server.tool_pages import chromium, tool_address, tool_desk, tool_page, tool_settings

__all__ = ["chromium", "tool_address", "tool_desk", "tool_page", "tool_settings"]
