"""What everything, and every plug-in, may import: types, ids, registry, errors."""
