"""The stream application: sockets and what they subscribed to."""
