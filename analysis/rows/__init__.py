"""A run folder as data frames; choosing and pairing its rows."""
