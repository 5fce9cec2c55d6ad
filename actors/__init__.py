"""Long-lived state: one folder an actor, each core.py (logic), actor.py (shell), client.py."""
