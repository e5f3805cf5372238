"""HTTP: A1111's API, the asynchronous one, and the page."""
