"""The composition root: builds every part, hands each what it needs, starts them in order and stops them in reverse."""
