"""The asynchronous API: a job is handed in, watched and fetched, in a request each."""
