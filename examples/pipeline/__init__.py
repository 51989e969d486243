"""A file is loaded row by row by an activity that is killed on the way and goes on where it was. See README.md."""
