"""The edge: REST, WebSocket, pages, the command line.

Write `from ray import serve as ray_serve`, since this package has the name.
"""
