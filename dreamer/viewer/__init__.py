"""The dream, live: what an agent sees, reconstructs and dreams, on a page of this computer (docs/dream.md).

`model`, `episode` and `dream` are what is simulated and dreamed, `session` is what one viewer does with them, `engine`
the thread that all sessions share, `server` the page and who may open it.
"""
