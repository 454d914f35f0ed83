"""Stand-ins that run the same app on one machine: `python -m local`. Never deployed."""
