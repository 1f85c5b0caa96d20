"""Columns of a table as inputs of a network: numbers, dates, names; and which are left out."""
