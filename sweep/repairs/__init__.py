"""Repairs: one file each, statistics of the merged model mended on training images."""
