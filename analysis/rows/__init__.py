"""Data frames of a run folder, and the selection and pairing of their rows."""
