"""Who works, and when: the durable queue, and the worker process that makes what it holds."""
