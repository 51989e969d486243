"""The parts of the chaos runs that need no process."""
