"""Recipes: loading, checking, merging, filling in, and one message on its way through them."""
