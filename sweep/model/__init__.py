"""One network: build it, lay it out flat, run it forward, measure it, trace its permutations."""
