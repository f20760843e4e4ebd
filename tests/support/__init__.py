"""Helpers that the tests of all lessons share."""
