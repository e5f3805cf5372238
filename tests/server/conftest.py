"""What several files of tests share: a browser before the page's tabs, and the tools' routes without one."""

from tests.server.picture_pages import page, served, slow_desk
from tests.server.tool_pages import chromium, tool_address, tool_desk, tool_page, tool_settings
from tests.server.tool_routes import route_client, route_desk, route_settings

__all__ = [
    "chromium",
    "page",
    "route_client",
    "route_desk",
    "route_settings",
    "served",
    "slow_desk",
    "tool_address",
    "tool_desk",
    "tool_page",
    "tool_settings",
]
