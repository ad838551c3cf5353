"""Trains one member, or several members at once; imports external checkpoints."""
