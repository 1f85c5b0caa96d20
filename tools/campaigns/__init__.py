"""The campaigns of ``tools/campaign.py``: a module each, and what they share."""
