"""From a `Sweep` to pools, members and candidates with ids and seeds; nothing is read or computed."""
