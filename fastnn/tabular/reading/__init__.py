"""Reading data files as tables, in blocks, so that memory holds little more than the numbers.

`formats.read_table` chooses the reader: `csv_file`, `parquet` or `npz`. All of them hand text to
`text_columns`, which decides with `numbers` what it holds.
"""
