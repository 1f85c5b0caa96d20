"""What `tables.py` is made of: the sets, the contenders, their scores, the comparison."""
