"""One member: from data to weights."""
