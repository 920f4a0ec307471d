"""The front: HTTP, by the short way or by ASGI."""
