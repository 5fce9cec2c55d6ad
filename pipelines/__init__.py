"""Work that ends: analyses for drivers and routes, later tasks and schedules."""
