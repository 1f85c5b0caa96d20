"""Data before training: splits, scalers, and the validation of arrays."""

from fastnn.data.scalers import MinMaxScaler, Standardizer
from fastnn.data.splits import k_fold, train_test_split, train_validation_test_split

__all__ = [
    "MinMaxScaler",
    "Standardizer",
    "k_fold",
    "train_test_split",
    "train_validation_test_split",
]
