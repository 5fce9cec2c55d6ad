"""The jobs that run by themselves, one file for each thing that they keep up to date."""
