"""Scalings: one file each, a function from the number of members and the layout to a factor per member and tensor."""
