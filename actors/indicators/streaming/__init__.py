"""Live indicators of what somebody wants: leases, bars under way, what is told."""
