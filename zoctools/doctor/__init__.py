"""Looks at everything a Zocalo needs, all at once, and says what is wrong and what to do."""
