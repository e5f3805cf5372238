"""The page: its controls and strings are declared here, and rendered without a build step."""
