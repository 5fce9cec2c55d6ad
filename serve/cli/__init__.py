"""The command line: each command in a file, and what starts and stops a service."""
