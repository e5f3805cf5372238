"""What several files of tests share: a browser before the page's tabs."""

from tests.server.picture_pages import page, served, slow_desk
from tests.server.tool_pages import chromium, tool_address, tool_desk, tool_page, tool_settings

__all__ = ["chromium", "page", "served", "slow_desk", "tool_address", "tool_desk", "tool_page", "tool_settings"]
