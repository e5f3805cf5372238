"""What several files of tests share: a browser before the tool tabs, and their routes without one."""

from tests.server.tool_pages import chromium, tool_address, tool_desk, tool_page, tool_settings
from tests.server.tool_routes import route_client, route_desk, route_settings

__all__ = [
    "chromium",
    "route_client",
    "route_desk",
    "route_settings",
    "tool_address",
    "tool_desk",
    "tool_page",
    "tool_settings",
]
