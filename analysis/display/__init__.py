"""How estimates and figures look."""
