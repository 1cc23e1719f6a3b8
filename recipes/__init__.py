"""Running a sequence of stages."""
