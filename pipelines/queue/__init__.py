"""The durable queue in front of Ray: what runs next, and what came of it."""
