"""Data files as tables: columns, their encoding, predictions as columns."""
