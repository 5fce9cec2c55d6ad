"""The store: everything that is kept in a database, and all SQL of the project."""
