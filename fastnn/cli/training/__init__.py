"""The command ``fastnn train``: its options, its data, and two ways to train."""
