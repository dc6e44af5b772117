"""Derived tables, one a module."""
