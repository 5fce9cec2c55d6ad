"""Between socket and route: who may, what is cached, how errors look, what is counted."""
