"""What a model of a table has learnt: importance of columns, partial dependence, slopes."""
