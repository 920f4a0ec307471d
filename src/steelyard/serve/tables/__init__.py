"""Tables as bodies: Arrow IPC streams and Parquet, read, checked and written by columns."""
