"""The replicas: what each holds, and how it starts."""
