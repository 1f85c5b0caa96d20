"""Why a network does not learn: measured evidence, findings in words, cures."""
