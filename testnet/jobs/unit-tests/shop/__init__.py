"""A warehouse with reservations: the code under test."""
