"""Tasks that come with Finstage."""
